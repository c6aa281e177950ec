"""The gin files of the real data sets, over records as `richhf prepare` writes them, with a shrunk model."""

import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from launch import configurables, gin_config
from richhf.data import datasets, records

SHORT = ("--gin.IMAGE_SIZE=32", "--gin.PROMPT_LENGTH=24", "--gin.KEYWORD_LENGTH=24")
LENGTHS = {"image": 32, "heatmaps": 64, "inputs": 24, "targets": 24}


@pytest.fixture(scope="session")
def prepared(data_dir, tmp_path_factory):
    """The synthetic set with images of other sizes as JPEG, and maps of 512 px."""
    folder = tmp_path_factory.mktemp("prepared")

    def change(index, record):
        buffer = io.BytesIO()
        size = ((48, 40), (32, 64), (600, 600))[index % 3]
        Image.fromarray(record.decode_image()).resize(size).save(buffer, "JPEG")
        maps = {name: np.kron(m, np.ones((16, 16), np.uint8)) for name, m in record.heatmaps.items()}
        return records.Record(**{**vars(record), "image": buffer.getvalue(), "heatmaps": maps})

    for file in records.list_record_files(data_dir):
        changed = [change(*pair) for pair in enumerate(records.read_records(file))]
        records.write_records(folder / file.name, changed[:10])
    return folder


@pytest.fixture(scope="session")
def captions(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    for file in records.list_record_files(prepared):
        with tf.io.TFRecordWriter(str(folder / file.name)) as writer:
            for record in records.read_records(file):
                values = {"image": record.image, "caption": record.prompt.encode()}
                features = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for name, value in values.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return folder


@pytest.fixture
def settings(prepared, data_dir):
    """Arguments that put the small records and vocabulary in place of the real ones."""
    return [f"--gin.DATA_DIR={prepared}", f"--gin.VOCABULARY={data_dir / 'vocabulary.model'}", *SHORT]


def batch_of(arguments, name):
    """The first batch of the data set that gin files and arguments configure."""
    gin_config.load(gin_config.parse_flags(arguments), configurables.PARAMETERS)
    register = gin_config.macros()["REGISTER_TASKS"].scoped_configurable_fn
    register()
    config = configurables.CONFIGURABLES["utils.DatasetConfig"]()
    assert config.mixture_or_task_name == name
    return next(datasets.eval_batches(config)).features


def test_training_and_evaluation_with_maps_of_their_own_size(train, evaluate, gin_files, settings, tmp_path):
    task = "--gin.MIXTURE_OR_TASK_NAME=richhf18k_multi_head"
    lengths = f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}"
    assert train(*settings, task, lengths, "--gin.EVAL_PERIOD=2", data="richhf18k") == 0
    config = (tmp_path / "run/config.gin").read_text()
    assert "Augmentation.crop_share = (0.8, 1.0)" in config
    assert list((tmp_path / "run").rglob("events*"))
    assert evaluate(*settings, task, "--gin.NUM_EXAMPLES=3", data="richhf18k") == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["examples"] == 3
    given = [*gin_files("tiny_multi_head", "eval", "richhf18k"), "--gin.MODEL_DIR=x", *settings, task]
    features = batch_of(given, "richhf18k_multi_head")
    assert features["image"].shape == (8, 32, 32, 3)
    assert features["heatmaps"].shape == (8, 2, 512, 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [f"--gin.TASK_FEATURE_LENGTHS={LENGTHS | {'heatmaps': 20}}"],
            "true maps of 20 px .* predicts maps of 8 px .* set 'heatmaps' to 8 or a multiple",
        ),
        (["--gin.VOCABULARY=/nowhere/t5.model"], "/nowhere/t5.model, does not exist.*VOCABULARY"),
        (["--gin.DATA_DIR=/nowhere"], "richhf prepare .* --out /nowhere"),
        (["--gin.Augmentation.crop_share=(0.8, 1.2)"], "Augmentation.crop_share is .* in order in"),
        (["--gin.MIXTURE_OR_TASK_NAME=richhf18k_multihead"], "Did you mean 'richhf18k_multi_head'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_compiled(
    train, settings, capsys, tmp_path, arguments, message
):
    task = "--gin.MIXTURE_OR_TASK_NAME=richhf18k_multi_head"
    assert train(*settings, task, *arguments, data="richhf18k") == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert re.search(message, error), error
    assert not (tmp_path / "run/config.gin").exists()


def test_captions_alone_and_mixed_from_their_gin_files(gin_files, settings, captions, evaluate, capsys):
    name = "--gin.MIXTURE_OR_TASK_NAME=captions_augmented_prompt"
    alone = [settings[1], SHORT[0], f"--gin.DATA_DIR={captions}", name]
    files = [*gin_files("tiny_augmented_prompt", "eval", "captions"), "--gin.MODEL_DIR=x"]
    features = batch_of([*files, *alone], "captions_augmented_prompt")
    assert features["encoder_input_tokens"].shape == (8, 7, 24)
    assert not {"heatmaps", "scores", "word_labels"} & {*features}
    assert evaluate(*alone, model="tiny_augmented_prompt", data="captions") == 2
    assert "captions_augmented_prompt has no rich feedback to compare with" in capsys.readouterr().err

    name = "--gin.MIXTURE_OR_TASK_NAME=richhf18k_and_captions_multi_head"
    files = [*gin_files("tiny_multi_head", "eval", "richhf18k_and_captions"), "--gin.MODEL_DIR=x"]
    mixed = [*settings, f"--gin.CAPTIONS_DIR={captions}", name, "--gin.BATCH_SIZE=20"]
    features = batch_of([*files, *mixed], "richhf18k_and_captions_multi_head")
    assert features["heatmap_weights"].any(1).sum() == 10
    assert (features["word_labels"][10:] == -1).all()
