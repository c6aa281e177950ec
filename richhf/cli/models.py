"""The subcommands on models: predict, convert."""

import argparse
import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from richhf.cli.parser import Add, count, positive
from richhf.cli.status import EXIT_PROBLEMS

if TYPE_CHECKING:
    from richhf.inference.inputs import Input

_FLAGS = {"TABLE": "--table", "INPUT": "--csv or --folder", "OUTPUT_DIR": "--out", "MAX_PIXELS": "the limit"}
_FLAGS |= {f"{name}_COLUMN": f"--{name.lower()}-column" for name in ("ID", "IMAGE", "PROMPT")}


def add_predict(add: Add) -> None:
    """Adds the subcommand."""
    command = add("predict", _predict, "Feedback on images: JSONL, maps, overlays and one HTML page.")
    text = "image files, with --prompt; or give --csv or --folder"
    command.add_argument("image", metavar="IMAGE", nargs="*", default=[], help=text)
    command.add_argument("--csv", metavar="FILE", help="a CSV, TSV or JSONL table of image paths and prompts")
    text = "a folder of images with a table of their prompts in it, or a .txt beside each; or record files"
    command.add_argument("--folder", metavar="DIR", help=text)
    text = "what IMAGE was made from; once for all images, or once for each, in their order"
    command.add_argument("--prompt", metavar="TEXT", action="append", help=text)
    text = "a shipped model's name, a model folder, or a run of training (default synthetic-tiny)"
    command.add_argument("--model", metavar="M", default="synthetic-tiny", help=text)
    command.add_argument(
        "--out", metavar="DIR", required=True, help="folder to write; one that is there is brought up to date"
    )
    text = "what to predict: scores, heatmaps, keywords (default: all), or single ones such as plausibility"
    kinds = ("scores", "heatmaps", "keywords")
    command.add_argument("--outputs", metavar="NAME", nargs="+", default=kinds, help=text)
    text = "png (8 bits), npy (float32) or both (default png)"
    command.add_argument(
        "--maps", metavar="FORMAT", nargs="+", choices=("png", "npy"), default=("png",), help=text
    )
    command.add_argument(
        "--batch-size", metavar="N", type=positive, default=8, help="images at once (default 8)"
    )
    text = "sequences that keyword decoding follows (default 1: greedy)"
    command.add_argument("--beams", metavar="N", type=positive, default=1, help=text)
    text = "images that the page shows at most (default 500)"
    command.add_argument("--page-images", metavar="N", type=count, default=500, help=text)
    command.add_argument("--strict", action="store_true", help="stop at the first image that cannot be used")
    command.add_argument(
        "--table", metavar="FILE", help="prompts of the images in --folder, where it lies elsewhere"
    )
    for name in ("id", "image", "prompt"):
        text = f"column of the {name}, where it is not to be guessed"
        command.add_argument(f"--{name}-column", metavar="C", help=text)


def add_convert(add: Add) -> None:
    """Adds the subcommand."""
    command = add(
        "convert", _convert, "Convert weights of other makes into ours, or into the author's layout."
    )
    text = "file or folder: safetensors, PyTorch, npz, T5X, or a model folder of ours"
    command.add_argument("source", metavar="SRC", help=text)
    text = "a new .safetensors file, or a new model folder (of a whole network, with --vocabulary)"
    command.add_argument("destination", metavar="DST", help=text)
    text = "author, hf-t5, t5x-t5, hf-vit, big-vision-vit or richhf (default: what it looks like)"
    command.add_argument("--from", metavar="FORMAT", dest="source_format", help=text)
    text = (
        "richhf (default); author: the PyTorch layout of RAHF's first author, .safetensors or .pt; or "
        "author-transformers5: the same as his network names it with transformers 5"
    )
    command.add_argument("--to", metavar="FORMAT", dest="target_format", default="richhf", help=text)
    text = "config.json of ours with the sizes (default: in or beside SRC, or read off the weights)"
    command.add_argument("--model", metavar="FILE", help=text)
    text = "SentencePiece model that the weights were trained with, for a model folder"
    command.add_argument("--vocabulary", metavar="FILE", help=text)
    text = "tokens of a prompt row (default: what SRC says, or 128)"
    command.add_argument("--prompt-length", metavar="N", type=positive, help=text)


def _predict(arguments: argparse.Namespace) -> int:
    import richhf
    from richhf.inference.feedback_folder import PAGE, TABLE, read_feedback_rows, write_feedback
    from richhf.inference.manifest import check_writable

    _check_sources(arguments)
    outputs = _asked_outputs(arguments.outputs)
    inputs = _listed_inputs(arguments)
    with _flags_for_settings():
        check_writable(arguments.out)
    predictor = richhf.load(arguments.model)
    demonstration = predictor.settings.demonstration
    if demonstration:
        print(f"{arguments.model} is a demonstration: {demonstration}")

    @contextlib.contextmanager
    def stage(name: str, total: int) -> Iterator[Callable[[int], Any]]:
        with tqdm(total=total, desc=name, unit=" images", disable=total < 2) as bar:
            yield bar.update

    with _flags_for_settings():
        summary = write_feedback(
            inputs,
            arguments.out,
            predictor.encoder,
            lambda examples: predictor.predict_examples(examples, outputs, beams=arguments.beams),
            outputs=outputs,
            identity=predictor.identity | {"beams": arguments.beams},
            model=arguments.model,
            demonstration=demonstration,
            batch_size=arguments.batch_size,
            map_formats=tuple(arguments.maps),
            page_images=arguments.page_images,
            strict=arguments.strict,
            stage=stage,
            note=print,
        )
    out = pathlib.Path(arguments.out)
    failed = "".join(f"\n  {count:,} {kind}" for kind, count in summary["failed"].items())
    if arguments.image:
        _print_rows(read_feedback_rows(out))
    if len(inputs) > 1:
        print(f"{summary['done']:,} of {summary['inputs']:,} images done{failed and f'; failed:{failed}'}")
        if failed:
            print(f"why, of each: error in {out / TABLE}, or the end of the page")
    print(out / PAGE, flush=True)
    return EXIT_PROBLEMS if failed else 0


def _check_sources(arguments: argparse.Namespace) -> None:
    """Raises ValueError unless there are images with their prompts, a table or a folder."""
    images = arguments.image
    given = [name for name in ("csv", "folder") if getattr(arguments, name) is not None]
    given = ["IMAGE"] * bool(images) + [f"--{name}" for name in given]
    if len(given) != 1:
        found = (
            f"{' and '.join(given)} do not go together; give one" if given else "there is no input; give one"
        )
        raise ValueError(f"{found} of IMAGE..., --csv FILE and --folder DIR.")
    if not images:
        if arguments.prompt:
            raise ValueError(
                "--prompt goes with IMAGE; prompts of many images stand in a table (--csv, --table)."
            )
        return
    for image in images:
        _check_image(image)
    if not arguments.prompt:
        raise ValueError("an image alone does not say what its prompt was; give it: --prompt TEXT")
    if len(arguments.prompt) not in (1, len(images)):
        raise ValueError(
            f"there are {len(images)} images and {len(arguments.prompt)} prompts; give one --prompt for all "
            "images, or one for each in the same order."
        )


def _check_image(image: str) -> None:
    from richhf.data.readers import TABLES
    from richhf.inference.inputs import shortened

    name = shortened(image)
    if os.path.isdir(image):
        raise ValueError(f"{name} is a folder, not an image; give it as --folder {name}")
    if not os.path.isfile(image):  # which takes names of any length
        raise ValueError(f"there is no file {name}; --folder DIR and --csv FILE take many images")
    if pathlib.Path(image).suffix.lower() in TABLES:
        raise ValueError(f"{name} is a table, not an image; give it as --csv {name}")
    if ".tfrecord" in pathlib.Path(image).name:
        raise ValueError(f"{name} is a record file, not an image; give it as --folder {name}")


def _listed_inputs(arguments: argparse.Namespace) -> "list[Input]":
    from richhf.inference.inputs import file_input
    from richhf.inference.listing import find_inputs
    from richhf.inference.manifest import check_outside

    if arguments.image:
        prompts = arguments.prompt * (len(arguments.image) if len(arguments.prompt) == 1 else 1)
        pairs = zip(arguments.image, prompts, strict=True)
        inputs = [file_input(image, pathlib.Path(image), prompt) for image, prompt in pairs]
        for one in inputs:
            if one.failure:
                raise ValueError(str(one.failure))
        return inputs
    columns = {f"{name}_column": getattr(arguments, f"{name}_column") for name in ("id", "image", "prompt")}
    source = arguments.csv or arguments.folder
    with _flags_for_settings():
        check_outside(arguments.out, source)
        return find_inputs(source, table=arguments.table, **columns, note=print)


def _asked_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the outputs that were asked for, in the project's order."""
    from richhf.inference.predictions import asked_outputs

    try:
        return asked_outputs(names)
    except ValueError as error:
        raise ValueError(f"--outputs: {error}") from error


def _print_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints what was predicted on a few images, a line each."""
    from richhf.feedback import SCORES

    for row in rows:
        if row["error"]:
            print(f"no feedback on {row['image']}: {' '.join(row['error'].split())}")
            continue
        parts = [f"{name} {row[name]:.4f}" for name in SCORES if name in row]
        if row.get("misaligned"):
            words = [word for word, flag in zip(row["words"], row["misaligned"], strict=True) if flag]
            parts.append(f"misaligned words: {' '.join(words) or 'none'}")
        if parts:
            print(f"{row['image']}: {', '.join(parts)}")


def _convert(arguments: argparse.Namespace) -> int:
    from richhf.pretrained.convert import convert

    convert(
        arguments.source,
        arguments.destination,
        source_format=arguments.source_format,
        target_format=arguments.target_format,
        model=arguments.model,
        vocabulary=arguments.vocabulary,
        prompt_length=arguments.prompt_length,
    )
    return 0


@contextlib.contextmanager
def _flags_for_settings() -> Iterator[None]:
    """Errors of what launch.infer shares with this command name its settings; here they are flags."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        text = re.sub(rf"\b({'|'.join(_FLAGS)})\b", lambda found: _FLAGS[found[1]], str(error))
        # Not of the error's own type: some, such as UnicodeDecodeError, cannot be made of a text.
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(text) from error
