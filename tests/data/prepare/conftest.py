"""A small RichHF-18K: label files, and the same images and prompts in each form that `prepare` reads."""

import contextlib
import csv
import importlib
import io
import json
import pathlib
import resource

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from richhf.data.dataset_info import INFO
from richhf.data.records import encode_png

COUNTS = {"train": 7, "dev": 2, "test": 2}
# Pick-a-Pic v1's columns that matter here, with some of the others.
PICKAPIC = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("caption", pa.string()),
        ("image_0_uid", pa.string()),
        ("image_1_uid", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("ranking_id", pa.int64()),
    ]
)


def encode(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


class World:
    """Labels, images and prompts by uid, and writers of files of them."""

    def __init__(self):
        rng = np.random.default_rng(18)
        maps = [np.zeros((512, 512), np.uint8) for _ in range(3)]
        for number, pixels in enumerate(maps):
            pixels[number * 100 : number * 100 + 40, 50:90] = 85 * number
        self.maps = [encode_png(pixels) for pixels in maps]
        self.splits = {
            split: [f"{split}-uid-{number:04x}" for number in range(count)] for split, count in COUNTS.items()
        }
        self.uids = [uid for uids in self.splits.values() for uid in uids]
        self.labels, self.images, self.prompts = {}, {}, {}
        for number, uid in enumerate(self.uids):
            self.prompts[uid] = f"a yellow cat, number {number} é"
            kind = "PNG" if number % 3 == 0 else "JPEG"
            self.images[uid] = encode(rng.integers(0, 256, (24, 20 + number, 3), dtype=np.uint8), kind)
            scores = rng.integers(13, size=4) / 12
            self.labels[uid] = {
                "filename": f"{uid.split('-')[0]}/{uid}.png".encode(),
                "artifact_map": self.maps[number % 3],
                "misalignment_map": self.maps[(number + 1) % 3],
                "prompt_misalignment_label": b"1 0 1 1 1 1",
                "artifact_score": float(scores[0]),
                "misalignment_score": float(scores[1]),
                "aesthetics_score": float(scores[2]),
                "overall_score": float(scores[3]),
            }

    def example(self, uid: str, **changes: object) -> bytes:
        """A label record; a change to None takes a feature out."""
        features = {}
        for name, value in {**self.labels[uid], **changes}.items():
            if isinstance(value, bytes):
                features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            elif isinstance(value, float):
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    def write_labels(self, folder: pathlib.Path, changes: dict[str, dict] | None = None) -> pathlib.Path:
        """RichHF-18K's three files, with changes to features by uid."""
        folder.mkdir(parents=True, exist_ok=True)
        for split, uids in self.splits.items():
            with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as writer:
                for uid in uids:
                    writer.write(self.example(uid, **(changes or {}).get(uid, {})))
        return folder

    def write_pickapic(self, folder: pathlib.Path, *, group: int = 3) -> pathlib.Path:
        """Two files; wanted uids in either position, among others; row groups of `group` rows."""
        folder.mkdir(parents=True, exist_ok=True)
        other = encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
        rows = []
        for number, uid in enumerate(reversed(self.uids)):
            pair = [(uid, self.images[uid]), (f"other-{number}", other)]
            if number % 2:
                pair.reverse()
            rows.append(self.pickapic_row(pair[0], pair[1], self.prompts[uid]))
            rows += [self.pickapic_row(("x", other), ("y", other), "nothing wanted")] * 2
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:])):
            path = folder / f"train-{number:05d}-of-00002-0123456789abcdef.parquet"
            pq.write_table(pa.Table.from_pylist(part, PICKAPIC), path, row_group_size=group)
        return folder

    @staticmethod
    def pickapic_row(first: tuple[str, bytes], second: tuple[str, bytes], caption: str | None) -> dict:
        return {
            "are_different": True,
            "caption": caption,
            "image_0_uid": first[0],
            "image_1_uid": second[0],
            "jpg_0": first[1],
            "jpg_1": second[1],
            "label_0": 0.5,
            "ranking_id": 1,
        }

    def mirror_rows(self, split: str) -> list[dict]:
        """Image and caption as Hugging Face `datasets` stores them."""
        return [
            {
                "image": {"bytes": self.images[uid], "path": None},
                "caption": self.prompts[uid],
                "filename": f"{split}/{uid}.png",
            }
            for uid in self.splits[split]
        ]

    def write_parquet_mirror(self, folder: pathlib.Path) -> pathlib.Path:
        folder.mkdir(parents=True, exist_ok=True)
        for split in self.splits:
            table = pa.Table.from_pylist(self.mirror_rows(split))
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=3)
        return folder

    def write_saved_mirror(self, folder: pathlib.Path) -> pathlib.Path:
        """As `DatasetDict.save_to_disk` does: Arrow streams in a folder a split."""
        for split in self.splits:
            table = pa.Table.from_pylist(self.mirror_rows(split))
            path = folder / split / "data-00000-of-00001.arrow"
            path.parent.mkdir(parents=True)
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
            state = {"_data_files": [{"filename": path.name}], "_split": split}
            (path.parent / "state.json").write_text(json.dumps(state))
            (path.parent / INFO).write_text("{}")
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(self.splits)}))
        return folder

    def write_images(self, folder: pathlib.Path, *, table: str = "prompts.csv") -> pathlib.Path:
        """Images in two folders, one unknown among them, and a CSV or JSONL table."""
        for number, (uid, image) in enumerate(self.images.items()):
            suffix = "png" if image.startswith(b"\x89PNG") else ("jpg", "JPEG")[number % 2]
            path = folder / ("a", "b")[number % 2] / f"{uid}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
        (folder / "a" / "stranger.png").write_bytes(b"not needed, so never read")
        rows = [{"uid": uid, "prompt": prompt} for uid, prompt in self.prompts.items()]
        with (folder / table).open("w", encoding="utf-8", newline="") as file:
            if table.endswith(".csv"):
                writer = csv.DictWriter(file, ["uid", "prompt"])
                writer.writeheader()
                writer.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        return folder


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(scope="session")
def labels(world, tmp_path_factory):
    """RichHF-18K's three files, sound."""
    return world.write_labels(tmp_path_factory.mktemp("richhf"))


@pytest.fixture(scope="session")
def pickapic(world, tmp_path_factory):
    """Sound images and prompts."""
    return world.write_pickapic(tmp_path_factory.mktemp("pickapic"))


@pytest.fixture
def interrupt(monkeypatch):
    """Runs a function that is interrupted when `calls` calls of a function of a module are done."""

    def run(module: str, name: str, calls: int, function) -> None:
        module, done = importlib.import_module(f"richhf.data.prepare.{module}"), []
        whole = getattr(module, name)

        def interrupted(*args):
            if len(done) == calls:
                raise KeyboardInterrupt
            whole(*args)
            done.append(args)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                function()

    return run


@pytest.fixture(scope="session")
def no_more_files():
    """A context in which this process can open no file, as when all that the system allows are open."""

    @contextlib.contextmanager
    def limit():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limit


@pytest.fixture(scope="session")
def contents():
    """The files of a folder by name."""

    def read(folder: pathlib.Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read
