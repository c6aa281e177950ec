"""Writing record files: labels as found, with the image and the prompt added."""

import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import tqdm

from richhf.data.dataset_info import Shard
from richhf.data.examples import serialize_features, write_examples
from richhf.data.prepare.join import Pair
from richhf.data.prepare.spool import Spool

EXPECTED = {"train": 15_810, "dev": 995, "test": 955}
"""Records of RichHF-18K, by split."""


def list_shards(counts: Mapping[str, int], shards: int) -> list[Shard]:
    """Cuts splits into ranges that differ by one record at most.

    Args:
        counts: records by split.
        shards: for train; the other splits get as many less as RichHF-18K's are smaller. None is empty.
    """
    cut = []
    for split, count in counts.items():
        number = min(count, max(1, round(shards * EXPECTED[split] / EXPECTED["train"])))
        for index in range(number):
            cut.append(Shard(split, index, number, index * count // number, (index + 1) * count // number))
    return cut


def assemble(
    out: pathlib.Path, pairs: Mapping[str, Sequence[Pair]], spool: Spool, shards: int
) -> list[Shard]:
    """Writes the shards that are not there yet.

    Shards that an earlier run left stay, if it was going to write the same records: a file that could not be
    read then may be readable now, or be another one.

    Args:
        out: the folder.
        pairs: records by split, in order.
        spool: where images are.
        shards: see `list_shards`.

    Returns:
        all shards.

    Raises:
        OSError: if a file cannot be written; it is not there then.
    """
    cut = list_shards({split: len(found) for split, found in pairs.items()}, shards)
    contents = {split: [pair.checksums() for pair in found] for split, found in sorted(pairs.items())}
    plan = hashlib.sha256(repr(contents).encode()).hexdigest()
    if spool.plan() != plan:
        for split in pairs:
            for path in out.glob(f"{split}-*-of-*.tfrecord"):
                path.unlink()
        spool.set_plan(plan)
    with tqdm.tqdm(desc="write", total=sum(map(len, pairs.values())), unit=" records", disable=None) as bar:
        for shard in cut:
            records = pairs[shard.split][shard.start : shard.stop]
            if (out / shard.file).exists():
                bar.update(len(records))
            else:
                write_examples(out / shard.file, _examples(records, spool, bar))
    return cut


def make_example(pair: Pair, image: bytes) -> bytes:
    """Serializes a record; the eight label features are those of the label record, byte for byte."""
    return serialize_features({**pair.label.read(), "image": image, "prompt": pair.entry.prompt.encode()})


def _examples(pairs: Sequence[Pair], spool: Spool, bar: tqdm.tqdm) -> Iterator[bytes]:
    for pair in pairs:
        yield make_example(pair, spool.read_image(pair.entry))
        bar.update()
