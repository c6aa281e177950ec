"""The subcommands on models: predict, convert."""

import argparse
import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

from tqdm import tqdm

from richhf.cli.parser import EXIT_PROBLEMS, Add, count, positive

_FLAGS = {"TABLE": "--table", "INPUT": "--csv or --folder", "OUTPUT_DIR": "--out", "MAX_PIXELS": "the limit"}
_FLAGS |= {f"{name}_COLUMN": f"--{name.lower()}-column" for name in ("ID", "IMAGE", "PROMPT")}


def add_predict(add: Add) -> None:
    """Adds the subcommand."""
    command = add("predict", _predict, "Feedback on images: JSONL, maps, overlays and one HTML page.")
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument("image", metavar="IMAGE", nargs="?", help="an image file; with --prompt")
    given.add_argument("--csv", metavar="FILE", help="a CSV, TSV or JSONL table of image paths and prompts")
    text = "a folder of images with a table of their prompts in it, or a .txt beside each; or record files"
    given.add_argument("--folder", metavar="DIR", help=text)
    command.add_argument("--prompt", metavar="TEXT", help="what IMAGE was made from")
    text = "a shipped model's name, a model folder, or a run of training (default synthetic-tiny)"
    command.add_argument("--model", metavar="M", default="synthetic-tiny", help=text)
    command.add_argument(
        "--out", metavar="DIR", required=True, help="folder to write; begun, it is gone on with"
    )
    names = ("scores", "heatmaps", "keywords")
    text = f"what to predict (default all): {', '.join(names)}; what is left out is not computed"
    command.add_argument("--outputs", metavar="KIND", nargs="+", choices=names, default=names, help=text)
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
    text = "richhf (default), or author: the PyTorch layout of RAHF's first author, .safetensors or .pt"
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
    from richhf.inference.inputs import file_input, shortened
    from richhf.inference.listing import find_inputs
    from richhf.inference.manifest import check_outside
    from richhf.inference.predictions import KINDS

    kinds = tuple(kind for kind in KINDS if kind in arguments.outputs)
    if arguments.image is not None:
        if arguments.prompt is None:
            raise ValueError("an image alone says nothing of its prompt; give it: --prompt TEXT")
        if not os.path.isfile(arguments.image):  # which takes names of any length
            raise ValueError(
                f"there is no file {shortened(arguments.image)}; --folder DIR and --csv FILE take many"
            )
        inputs = [file_input(arguments.image, pathlib.Path(arguments.image), arguments.prompt)]
        if inputs[0].failure:
            raise ValueError(str(inputs[0].failure))
    elif arguments.prompt is not None:
        raise ValueError("--prompt goes with one IMAGE; prompts of many stand in a table (--csv, --table)")
    else:
        columns = {
            f"{name}_column": getattr(arguments, f"{name}_column") for name in ("id", "image", "prompt")
        }
        source = arguments.csv or arguments.folder
        with _flags_for_settings():
            check_outside(arguments.out, source)
            inputs = find_inputs(source, table=arguments.table, **columns, note=print)
    predictor = richhf.load(arguments.model)
    demonstration = predictor.settings.demonstration
    if demonstration:
        print(f"{arguments.model} is a demonstration: {demonstration}")
    bar = tqdm(total=len(inputs), desc="predict", unit=" images", disable=len(inputs) == 1)
    with bar, _flags_for_settings():
        summary = write_feedback(
            inputs,
            arguments.out,
            predictor.encoder,
            lambda examples: predictor.predict_examples(examples, kinds, beams=arguments.beams),
            kinds=kinds,
            identity=predictor.identity | {"beams": arguments.beams},
            model=arguments.model,
            demonstration=demonstration,
            batch_size=arguments.batch_size,
            map_formats=tuple(arguments.maps),
            page_images=arguments.page_images,
            strict=arguments.strict,
            on_progress=bar.update,
        )
    out = pathlib.Path(arguments.out)
    failed = "".join(f"\n  {count:,} {kind}" for kind, count in summary["failed"].items())
    if failed and len(inputs) == 1:
        (row,) = read_feedback_rows(out)
        print(f"no feedback on {row['image']}: {' '.join(row['error'].split())}")
    else:
        print(f"{summary['done']:,} of {summary['inputs']:,} images done{failed and f'; failed:{failed}'}")
        if failed:
            print(f"why, of each: error in {out / TABLE}, or the end of the page")
    print(out / PAGE, flush=True)
    return EXIT_PROBLEMS if failed else 0


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
