import itertools

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks.captioning
import tasks.mixture
import tasks.richhf18k
from richhf import feedback
from richhf.data import datasets, training_stream
from richhf.data.datasets import DatasetConfig
from richhf.data.records import encode_png
from richhf.models import RAHFConfig, RichFeedbackModel
from tasks.augmentation import Augmentation

LENGTHS = {"image": 32, "inputs": 16, "targets": 8}
CAPTIONS = ["a red square", "a blue circle, above a star", "a green star"]


def picture(index: int) -> np.ndarray:
    return np.full((24 + index, 40, 3), 20 * index, np.uint8)


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """Record files of 6 images, each with its first `index % 4` captions."""
    folder = tmp_path_factory.mktemp("captions")
    for split in feedback.SPLITS:
        with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001.tfrecord")) as writer:
            for index in range(6):
                lists = {
                    "image": [encode_png(picture(index))],
                    "caption": [text.encode() for text in CAPTIONS[: index % 4]],
                    "filename": [f"{split}/{index}.png".encode()],
                }
                features = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
                    for name, values in lists.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return folder


@pytest.fixture
def register(captions, vocabulary):
    yield lambda **kwargs: tasks.captioning.register(captions, vocabulary=vocabulary, **kwargs)
    tasks.captioning.register()


def examples_of(name, lengths=LENGTHS, split="test", **kwargs):
    task = seqio.TaskRegistry.get(name)
    return list(task.get_dataset(lengths, split=split, **{"shuffle": False, **kwargs}).as_numpy_iterator())


def test_a_caption_is_asked_for_and_is_the_target(register, vocabulary):
    assert register() == ("captions_multi_head", "captions_augmented_prompt")
    row = [*vocabulary.encode(f"{feedback.CAPTION_TASK_STRING}: "), 1]
    for name, rows in (("captions_multi_head", 1), ("captions_augmented_prompt", 7)):
        for index, example in enumerate(examples_of(name)):
            np.testing.assert_array_equal(example["inputs"], [row] * rows)
            ids = vocabulary.encode(CAPTIONS[0]) if index % 4 else []
            np.testing.assert_array_equal(example["targets"], ([*ids, 1] if ids else [])[:8])
            np.testing.assert_array_equal(example["shown_tokens"], ids)
            assert (example["image"] == 20 * index).all()
            assert example["image"].shape == (32, 32, 3)
            assert not {"heatmaps", "scores", "word_labels"} & example.keys()


def test_training_takes_any_caption_and_cuts_long_ones_without_an_end_mark(register, vocabulary):
    register(augmentation=Augmentation())
    settings = {"split": "train", "shuffle": True, "seed": 1, "num_epochs": 12}
    seen: dict = {}
    for example in examples_of("captions_multi_head", **settings):
        seen.setdefault(int(example["filename"].split(b"/")[1][:1]), set()).add(tuple(example["targets"]))
    wanted = [tuple([*vocabulary.encode(text), 1][:8]) for text in CAPTIONS]
    assert wanted[1][-1] != 1
    assert {index: targets for index, targets in seen.items()} == {
        index: {*wanted[: index % 4]} or {()} for index in range(6)
    }


@pytest.mark.parametrize("variant", feedback.VARIANTS)
def test_a_model_of_captions_alone_runs_no_other_head(register, variant):
    register()
    config = DatasetConfig(f"captions_{variant}", LENGTHS, "dev", 3)
    batch = next(datasets.eval_batches(config)).features
    assert {*batch} == {
        "image", "encoder_input_tokens", "shown_tokens",
        "decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights",
    }  # fmt: skip
    model = RichFeedbackModel(tiny(variant))
    assert {*losses(model, batch)} == {"loss", "loss/keywords", "keyword_token_accuracy"}
    # The heads' parameters get no gradient because nothing is computed with them.
    text = hlo(model, batch)
    assert "t5" in text
    assert "heatmap_head" not in text
    assert "score_head" not in text


def tiny(variant) -> RAHFConfig:
    from richhf.models import HeatmapHeadConfig, ScoreHeadConfig, T5Config, ViTConfig

    return RAHFConfig(
        variant=variant,
        vit=ViTConfig(image_size=32, patch_size=8, width=16, depth=1, num_heads=2, mlp_width=16),
        t5=T5Config(
            vocab_size=128, d_model=16, num_heads=2, d_kv=4, d_ff=16, encoder_layers=1, decoder_layers=1
        ),
        heatmap_head=HeatmapHeadConfig(conv_widths=(4,), deconv_widths=(4,), residual_convs=0, final_width=4),
        score_head=ScoreHeadConfig(conv_widths=(4,), dense_widths=(4,)),
    )


def traced(model, batch):
    import flax.linen as nn
    import jax

    shapes = {name: value.shape for name, value in batch.items()}
    params = jax.eval_shape(
        lambda: nn.meta.unbox(model.get_initial_variables(jax.random.key(0), shapes)["params"])
    )
    return jax.jit(lambda params: model.loss_fn(params, batch, None)[1]).trace(params)


def losses(model, batch):
    return traced(model, batch).out_info


def hlo(model, batch) -> str:
    return traced(model, batch).lower().as_text(debug_info=True)


@pytest.mark.parametrize("variant", feedback.VARIANTS)
def test_a_mixture_has_labels_that_train_nothing(register, prepared, vocabulary, variant):
    def feedback_tasks():
        return tasks.richhf18k.register(prepared, vocabulary=vocabulary)

    def caption_tasks():
        return register(with_empty_labels=True)

    names = tasks.mixture.register("both", [feedback_tasks, caption_tasks], (1.0, 3.0))
    assert names == ("both_multi_head", "both_augmented_prompt")
    lengths = {"image": 32, "heatmaps": 64, "inputs": 40, "targets": 40}
    config = DatasetConfig(f"both_{variant}", lengths, "train", 8, shuffle=True, seed=0)
    stream = training_stream.train_iterator(config)
    alone = next(
        training_stream.train_iterator(DatasetConfig(f"richhf18k_{variant}", lengths, "train", 8, True, 0))
    )
    unlabelled = 0
    for _ in range(25):
        batch = next(stream)
        assert {n: (v.shape, v.dtype) for n, v in batch.items()} == {
            n: (v.shape, v.dtype) for n, v in alone.items()
        }
        bare = ~batch["heatmap_weights"].any(1)
        unlabelled += bare.sum()
        assert not batch["score_weights"][bare].any()
        assert (batch["word_labels"][bare] == -1).all()
        assert not batch["heatmaps"][bare].any()
        assert batch["score_weights"][~bare].all()
        assert batch["heatmap_weights"][~bare].all()
    assert 0.65 < unlabelled / 200 < 0.85
    first = next(iter(datasets.eval_batches(DatasetConfig(f"both_{variant}", lengths, "dev", 12))))
    assert first.valid == 12
    assert set(first.filenames) > {"dev/000.png", "dev/0.png"}
    tasks.richhf18k.register("build/richhf18k")


def test_a_mixture_can_be_saved_and_restored(register, prepared, vocabulary, tmp_path):
    members = [
        lambda: tasks.richhf18k.register(prepared, vocabulary=vocabulary, augmentation=Augmentation()),
        lambda: register(with_empty_labels=True, augmentation=Augmentation()),
    ]
    tasks.mixture.register("both", members, (1, 1))
    lengths = {"image": 32, "inputs": 40, "targets": 40}
    config = DatasetConfig("both_multi_head", lengths, "train", 4, shuffle=True, seed=5)
    stream = training_stream.train_iterator(config)
    for _ in range(5):
        next(stream)
    stream.save(tmp_path / "position")
    expected = [next(stream) for _ in range(6)]
    restored = training_stream.train_iterator(config)
    restored.restore(tmp_path / "position")
    for batch in expected:
        found = next(restored)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)
    tasks.richhf18k.register("build/richhf18k")


@pytest.mark.parametrize("rates", [(1.0,), (1.0, 0.0), ()])
def test_rates_that_mix_nothing_are_refused(rates):
    with pytest.raises(ValueError, match="one rate above 0 for each member"):
        tasks.mixture.register("both", [tuple, tuple], rates)


def write_tfds(folder, **shards):
    """A TFDS data set on disk with the features of `coco_captions` that are used, and examples by shard."""
    captions = tfds.features.Sequence({"text": np.str_, "id": np.int64})
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(), "image/filename": tfds.features.Text(), "captions": captions}
    )
    folder.mkdir(parents=True)
    splits = []
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=folder.parent.name, filetype_suffix="tfrecord"
    )
    for split, counts in shards.items():
        indices = iter(range(sum(counts)))
        for shard, count in enumerate(counts):
            name = f"{folder.parent.name}-{split}.tfrecord-{shard:05d}-of-{len(counts):05d}"
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for index in itertools.islice(indices, count):
                    texts = [{"text": text, "id": i} for i, text in enumerate(CAPTIONS)]
                    example = {"image": picture(index), "image/filename": f"{index}.jpg", "captions": texts}
                    writer.write(features.serialize_example(features.encode_example(example)))
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=counts,
                num_bytes=0,
                filename_template=template.replace(split=split),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=splits, filename_template=template
    )


def test_a_tfds_set_is_read_where_it_is_and_never_downloaded(tmp_path, vocabulary):
    settings = {"tfds_name": "tiny_captions:1.0.0", "tfds_data_dir": str(tmp_path), "vocabulary": vocabulary}
    tasks.captioning.register(**settings, tfds_splits={"train": "train", "dev": "val"})
    config = DatasetConfig("captions_augmented_prompt", LENGTHS, "train", 5, shuffle=True, seed=0)
    with pytest.raises(
        ValueError, match=f"tiny_captions:1.0.0 is not in {tmp_path}.*tfds build tiny_captions"
    ):
        training_stream.train_iterator(config)
    write_tfds(tmp_path / "tiny_captions" / "1.0.0", train=[5], val=[2])
    tasks.captioning.register(**settings, tfds_splits={"train": "train", "dev": "val"})
    stream = training_stream.train_iterator(config)
    epochs = [next(stream) for _ in range(3)]
    for batch in epochs:
        assert sorted(batch["image"][:, 0, 0, 0]) == [0, 20, 40, 60, 80]
    assert len({tuple(batch["decoder_target_tokens"].ravel()) for batch in epochs}) == 3
    dev = examples_of("captions_augmented_prompt", split="dev")
    assert [example["prompt"].decode() for example in dev] == CAPTIONS[:1] * 2
    tasks.captioning.register()


def test_a_stream_of_several_tfds_files_goes_on_where_it_was_saved(tmp_path, vocabulary):
    """Saved in an epoch of which the buffer holds the rest; compared over several, each in its own order."""
    write_tfds(tmp_path / "tiny_captions" / "1.0.0", train=[3, 2, 4, 3])
    tasks.captioning.register(
        tfds_name="tiny_captions:1.0.0",
        tfds_data_dir=str(tmp_path),
        tfds_splits={"train": "train"},
        vocabulary=vocabulary,
        augmentation=Augmentation(),
    )
    config = DatasetConfig("captions_multi_head", LENGTHS, "train", 4, shuffle=True, seed=3)
    stream = training_stream.train_iterator(config)
    next(stream)
    stream.save(tmp_path / "position")
    expected = [next(stream) for _ in range(14)]
    restored = training_stream.train_iterator(config)
    restored.restore(tmp_path / "position")
    for number, batch in enumerate(expected):
        found = next(restored)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, found[name], err_msg=f"batch {number}, {name}")
    epochs = np.stack([batch["image"] for batch in expected[2:]]).reshape(4, 12, -1)
    assert len({epoch.tobytes() for epoch in epochs}) == 4
    tasks.captioning.register()
