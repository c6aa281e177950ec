"""The subcommands on records: synthesize, prepare, inspect."""

import argparse
import os

from richhf.cli.parser import Add, count
from richhf.cli.status import EXIT_PROBLEMS


def add_synthesize(add: Add) -> None:
    """Adds the subcommand."""
    command = add("synthesize", _synthesize, "Make a synthetic data set with known truth.")
    command.add_argument("out", metavar="OUT", help="folder to write")
    for split, default in (("train", 4000), ("dev", 500), ("test", 1000)):
        text = f"number of {split} records (default {default})"
        command.add_argument(f"--{split}", metavar="N", type=count, default=default, help=text)
    text = "side in pixels, a multiple of 8 (default 64)"
    command.add_argument("--size", metavar="S", type=int, default=64, help=text)
    command.add_argument(
        "--seed", metavar="K", type=int, default=0, help="equal seeds, equal sets (default 0)"
    )
    text = "processes (default: one a core); the result does not depend on it"
    command.add_argument("--workers", metavar="W", type=int, help=text)


def add_prepare(add: Add) -> None:
    """Adds the subcommand."""
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
    command.add_argument("--shards", metavar="N", type=count, default=16, help=text)
    text = "processes (default: one a core, at most 2); the result does not depend on it"
    command.add_argument("--workers", metavar="W", type=int, help=text)
    command.add_argument("--reencode", action="store_true", help="convert JPEG to PNG too")
    text = "leave larger images out (default 64000000)"
    command.add_argument("--max-pixels", metavar="N", type=count, default=64_000_000, help=text)
    for name in ("uid", "image", "prompt"):
        text = f"column of the {name}, where it is not to be guessed"
        command.add_argument(f"--{name}-column", metavar="C", help=text)
    text = "CSV, TSV or JSONL table of uid and prompt (default: the only one in the folder of images)"
    command.add_argument("--table", metavar="FILE", help=text)


def add_inspect(add: Add) -> None:
    """Adds the subcommand."""
    command = add("inspect", _inspect, "Say what is in a record file or a folder of them.")
    command.add_argument("path", metavar="PATH", help="a .tfrecord file or a folder of them")
    command.add_argument("--out", metavar="PNG", help="draw the first records into this picture")
    text = "how many records to draw (default 6)"
    command.add_argument("--examples", metavar="N", type=count, default=6, help=text)
    command.add_argument("--strict", action="store_true", help="stop at the first problem")
    text = "SentencePiece model whose missing characters are counted (default: vocabulary.model in PATH)"
    command.add_argument("--vocabulary", metavar="FILE", help=text)


def _synthesize(arguments: argparse.Namespace) -> int:
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


def _prepare(arguments: argparse.Namespace) -> int:
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
    from richhf.data.inspect import format_inspection, inspect_records, write_contact_sheet
    from richhf.inference.load import load_vocabulary
    from richhf.pretrained.native import VOCABULARY

    beside = os.path.join(arguments.path, VOCABULARY)
    file = arguments.vocabulary or (beside if os.path.isfile(beside) else None)
    found = inspect_records(
        arguments.path,
        examples=arguments.examples,
        strict=arguments.strict,
        vocabulary=None if file is None else load_vocabulary(file),
    )
    print(format_inspection(found), flush=True)
    if arguments.out is not None:
        write_contact_sheet(arguments.out, found.examples)
        print(f"\nfirst {len(found.examples)} records drawn in {arguments.out}", flush=True)
    return EXIT_PROBLEMS if found.problems else 0
