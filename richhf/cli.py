"""The command `richhf`: one subcommand a job."""

import argparse
import contextlib
import difflib
import importlib.metadata
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from richhf.quiet import quiet_import

EXIT_PROBLEMS, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser that remembers its options, to suggest one for a misspelt name."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.options: list[str] = []
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        self.options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **kwargs)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    0: done. 1: done, and `inspect` found problems. 2: it could not be done; one line on stderr says why.
    130: interrupted.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser, commands = _build_parser()
    arguments = _parse(parser, commands, list(sys.argv[1:] if argv is None else argv))
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("richhf: interrupted; run the same command again and it goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, a pager) has gone; nothing is left to say, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (ValueError, OSError, ImportError) as error:
        print(f"richhf: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR


def _synthesize(arguments: argparse.Namespace) -> int:
    _import_tensorflow()
    from richhf.data.synthetic import synthesize

    synthesize(
        arguments.out,
        train=arguments.train,
        dev=arguments.dev,
        test=arguments.test,
        size=arguments.size,
        seed=arguments.seed,
        workers=arguments.workers,
    )
    return 0


def _import_tensorflow() -> None:
    """Imports TensorFlow without its greeting, before a progress bar stands where that would be printed."""
    with contextlib.suppress(ImportError), quiet_import():
        import tensorflow  # noqa: F401


def _prepare(arguments: argparse.Namespace) -> int:
    _import_tensorflow()
    from richhf.data import prepare

    already = prepare.is_complete(arguments.out)
    info = prepare.prepare(
        arguments.images,
        arguments.out,
        richhf=arguments.richhf,
        source=arguments.source,
        strict=arguments.strict,
        shards=arguments.shards,
        workers=arguments.workers,
        reencode=arguments.reencode,
        max_pixels=arguments.max_pixels,
        columns={name: getattr(arguments, f"{name}_column") for name in ("uid", "image", "prompt")},
        table=arguments.table,
    )
    if already:
        print(f"{arguments.out} was complete already; nothing was done\n")
    print(prepare.format_report(info), flush=True)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    _import_tensorflow()
    from richhf.data.inspect import format_inspection, inspect_records, write_contact_sheet

    found = inspect_records(arguments.path, examples=arguments.examples, strict=arguments.strict)
    print(format_inspection(found), flush=True)
    if arguments.out is not None:
        write_contact_sheet(arguments.out, found.examples)
        print(f"\nfirst {len(found.examples)} records drawn in {arguments.out}", flush=True)
    return EXIT_PROBLEMS if found.problems else 0


def _predict(arguments: argparse.Namespace) -> int:
    import richhf
    from richhf.inference.feedback_folder import PAGE, write_feedback
    from richhf.inference.inputs import file_input
    from richhf.inference.listing import find_inputs
    from richhf.inference.manifest import weights_digest
    from richhf.inference.predictions import KINDS

    kinds = tuple(kind for kind in KINDS if kind in arguments.outputs)
    if arguments.image is not None:
        if arguments.prompt is None:
            raise ValueError("an image alone says nothing of its prompt; give it: --prompt TEXT")
        inputs = [file_input(arguments.image, pathlib.Path(arguments.image), arguments.prompt)]
    elif arguments.prompt is not None:
        raise ValueError("--prompt goes with one IMAGE; prompts of many stand in a table (--csv, --table)")
    else:
        columns = {
            f"{name}_column": getattr(arguments, f"{name}_column") for name in ("id", "image", "prompt")
        }
        source = arguments.csv or arguments.folder
        with _flags_for_settings():
            inputs = find_inputs(source, table=arguments.table, **columns, note=print)
    predictor = richhf.load(arguments.model)
    bar = tqdm(total=len(inputs), desc="predict", unit=" images", disable=len(inputs) == 1)
    with bar, _flags_for_settings():
        summary = write_feedback(
            inputs,
            arguments.out,
            predictor.encoder,
            lambda examples: predictor.predict_examples(examples, kinds, beams=arguments.beams),
            kinds=kinds,
            identity={"sha256": weights_digest(predictor.params), "beams": arguments.beams},
            model=arguments.model,
            batch_size=arguments.batch_size,
            map_formats=tuple(arguments.maps),
            page_images=arguments.page_images,
            strict=arguments.strict,
            on_progress=bar.update,
        )
    failed = "".join(f"\n  {count:,} {kind}" for kind, count in summary["failed"].items())
    print(f"{summary['done']:,} of {summary['inputs']:,} images done{failed and f'; failed:{failed}'}")
    print(pathlib.Path(arguments.out) / PAGE, flush=True)
    return EXIT_PROBLEMS if failed else 0


_FLAGS = {"TABLE": "--table", "INPUT": "--csv or --folder", "OUTPUT_DIR": "--out", "MAX_PIXELS": "the limit"}
_FLAGS |= {f"{name}_COLUMN": f"--{name.lower()}-column" for name in ("ID", "IMAGE", "PROMPT")}


@contextlib.contextmanager
def _flags_for_settings() -> Iterator[None]:
    """Errors of what launch.infer shares with this command name its settings; here they are flags."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        text = re.sub(rf"\b({'|'.join(_FLAGS)})\b", lambda found: _FLAGS[found[1]], str(error))
        raise type(error)(text) from error


def _build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="richhf", description="Rich human feedback for text-to-image generation.")
    parser.add_argument(
        "--version", action="version", version=f"richhf {importlib.metadata.version('richhf')}"
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    commands: dict[str, _Parser] = {}

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
        commands[name] = subparsers.add_parser(name, help=text, description=text)
        commands[name].set_defaults(run=run)
        return commands[name]

    command = add("synthesize", _synthesize, "Make a synthetic data set with known truth.")
    command.add_argument("out", metavar="OUT", help="folder to write")
    for split, count in (("train", 4000), ("dev", 500), ("test", 1000)):
        text = f"number of {split} records (default {count})"
        command.add_argument(f"--{split}", metavar="N", type=_count, default=count, help=text)
    command.add_argument("--size", metavar="S", type=int, default=64, help="side in pixels (default 64)")
    command.add_argument(
        "--seed", metavar="K", type=int, default=0, help="equal seeds, equal sets (default 0)"
    )
    text = "processes (default: one a core); the result does not depend on it"
    command.add_argument("--workers", metavar="W", type=int, help=text)

    command = add("prepare", _prepare, "Join RichHF-18K's labels with images and prompts.")
    text = "folder of train.tfrecord, dev.tfrecord and test.tfrecord (left out: the mirror holds the labels)"
    command.add_argument("--richhf", metavar="DIR", help=text)
    text = "Pick-a-Pic's parquet files, a mirror (parquet or Arrow), or a folder of images named by uid"
    command.add_argument("--images", metavar="SOURCE", required=True, help=text)
    command.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    text = "pickapic, mirror or folder (default: what it looks like)"
    command.add_argument("--source", metavar="NAME", help=text)
    text = "stop at the first bad input; the real data has some: prompts with more or fewer words than labels"
    command.add_argument("--strict", action="store_true", help=text)
    text = "files of the training split (default 16)"
    command.add_argument("--shards", metavar="N", type=_count, default=16, help=text)
    text = "processes (default: one a core, at most 2); the result does not depend on it"
    command.add_argument("--workers", metavar="W", type=int, help=text)
    command.add_argument("--reencode", action="store_true", help="convert JPEG to PNG too")
    text = "leave larger images out (default 64000000)"
    command.add_argument("--max-pixels", metavar="N", type=_count, default=64_000_000, help=text)
    for name in ("uid", "image", "prompt"):
        text = f"column of the {name}, where it is not to be guessed"
        command.add_argument(f"--{name}-column", metavar="C", help=text)
    text = "CSV, TSV or JSONL table of uid and prompt (default: the only one in the folder of images)"
    command.add_argument("--table", metavar="FILE", help=text)

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
        "--batch-size", metavar="N", type=_positive, default=8, help="images at once (default 8)"
    )
    text = "sequences that keyword decoding follows (default 1: greedy)"
    command.add_argument("--beams", metavar="N", type=_positive, default=1, help=text)
    text = "images that the page shows at most (default 500)"
    command.add_argument("--page-images", metavar="N", type=_count, default=500, help=text)
    command.add_argument("--strict", action="store_true", help="stop at the first image that cannot be used")
    command.add_argument(
        "--table", metavar="FILE", help="prompts of the images in --folder, where it lies elsewhere"
    )
    for name in ("id", "image", "prompt"):
        text = f"column of the {name}, where it is not to be guessed"
        command.add_argument(f"--{name}-column", metavar="C", help=text)

    command = add("inspect", _inspect, "Say what is in a record file or a folder of them.")
    command.add_argument("path", metavar="PATH", help="a .tfrecord file or a folder of them")
    command.add_argument("--out", metavar="PNG", help="draw the first records into this picture")
    text = "how many records to draw (default 6)"
    command.add_argument("--examples", metavar="N", type=_count, default=6, help=text)
    command.add_argument("--strict", action="store_true", help="stop at the first problem")
    return parser, commands


def _parse(parser: _Parser, commands: dict[str, _Parser], argv: list[str]) -> argparse.Namespace:
    """Parses, naming the nearest known name for an unknown one."""
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        parser.error(f"unknown command {argv[0]!r}{_nearest(argv[0], list(commands))}")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        command = commands[argv[0]]
        name = unknown[0].split("=")[0]
        command.error(f"unknown argument {name!r}{_nearest(name, command.options)}")
    return arguments


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"


def _positive(text: str) -> int:
    if _count(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is too few; expected 1 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; expected 0 or a positive whole number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
