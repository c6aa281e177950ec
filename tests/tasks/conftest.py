"""A folder of small hand-made records with their vocabulary and lexicon: what `richhf synthesize` writes, in
little."""

import io
import itertools
import json

import numpy as np
import pytest
import sentencepiece
import seqio
from PIL import Image

from richhf import feedback
from richhf.data import records

SIDE = 16
COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("square", "circle", "star")
LEXICON = {
    "colour": {name: [name] for name in (*COLOURS, "orange")},
    "shape_singular": {name: [name] for name in SHAPES},
}


def make_record(index: int, *, split: str, labels=None, prompt=None) -> records.Record:
    """A record whose contents depend on its index: the image's first pixel holds it."""
    rng = np.random.default_rng([index, len(split)])
    colour, shape, other = (rng.choice(names) for names in (COLOURS, SHAPES, SHAPES))
    prompt = prompt or f"a {colour} {shape}, above a {other}"
    words = [w for w in prompt.replace(",", " ").split() if w]
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image[0, 0] = index
    return records.Record(
        filename=f"{split}/{index:03d}.png",
        scores={name: float(rng.integers(0, 13)) / 12 for name in feedback.SCORES},
        heatmaps={
            name: rng.choice(np.array([0, 85, 170, 255], np.uint8), (SIDE, SIDE))
            for name in feedback.HEATMAPS
        },
        labels=tuple(int(v) for v in (rng.random(len(words)) > 0.3)) if labels is None else labels,
        image=records.encode_png(image),
        prompt=prompt,
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Records: 40 train in 2 files, 7 dev, 5 test; the test split's third has a label too few."""
    path = tmp_path_factory.mktemp("feedback")
    train = [make_record(i, split="train") for i in range(40)]
    records.write_records(path / "train-00000-of-00002.tfrecord", train[:25])
    records.write_records(path / "train-00001-of-00002.tfrecord", train[25:])
    records.write_records(
        path / "dev-00000-of-00001.tfrecord", [make_record(i, split="dev") for i in range(7)]
    )
    test = [make_record(i, split="test", labels=(1, 1) if i == 2 else None) for i in range(5)]
    records.write_records(path / "test-00000-of-00001.tfrecord", test)
    (path / "lexicon.json").write_text(json.dumps(LEXICON))
    sentences = [
        f"a {c} {s}, above an {o}" for c, s, o in itertools.product((*COLOURS, "orange"), SHAPES, SHAPES)
    ]
    sentences += [f"a {c}_0 {s}_0, above a {s}" for c, s in itertools.product(COLOURS, SHAPES)]
    sentences += [f"{text}:" for text in feedback.TASK_STRINGS.values()] * 10
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(path / "vocabulary"),
        vocab_size=120,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return path


@pytest.fixture(scope="session")
def lengths():
    return {"image": SIDE, "inputs": 40, "targets": 40}


@pytest.fixture(scope="session")
def vocabulary(folder):
    return seqio.SentencePieceVocabulary(str(folder / "vocabulary.model"))


def encode_jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


SIZES = ((40, 40, "png"), (64, 48, "jpeg"), (96, 96, "jpeg"), (24, 20, "png"), (32, 32, "png"))
MAP_SIDE = 64


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """What `richhf prepare` writes, in little: images of several sizes and formats, maps of 64 px.

    20 train in 2 files, 6 dev, 5 test; the test split's third record has a label too few.
    """
    path = tmp_path_factory.mktemp("prepared")

    def make(index: int, split: str) -> records.Record:
        rng = np.random.default_rng(index)
        height, width, kind = SIZES[index % len(SIZES)]
        base = make_record(index, split=split, labels=(1, 1) if (split, index) == ("test", 2) else None)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        maps = {name: np.kron(m, np.ones((4, 4), np.uint8)) for name, m in base.heatmaps.items()}
        encoded = encode_jpeg(image) if kind == "jpeg" else records.encode_png(image)
        return records.Record(**{**vars(base), "image": encoded, "heatmaps": maps})

    for split, count, shards in (("train", 20, 2), ("dev", 6, 1), ("test", 5, 1)):
        made = [make(index, split) for index in range(count)]
        for shard in range(shards):
            file = path / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            records.write_records(file, made[shard::shards])
    return path
