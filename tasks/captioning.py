"""Captioning, for the pretraining mixture of the paper (section 4.1): `captions_multi_head` and
`captions_augmented_prompt`, over TFDS's `coco_captions` or over record files of image and caption.

A caption is what the decoder learns to say when it is asked for one; nothing is known about scores or maps.
So the tasks have no such features, and a model that is trained on them alone does not run those heads.

In a mixture with rich feedback every batch has the same features. For that, `with_empty_labels` gives the
tasks `unlabelled_captions_multi_head` and `unlabelled_captions_augmented_prompt`: empty maps and scores with
weight 0, and no word labelled. Such a batch runs every head, for captions in vain.

Importing this module registers the tasks over TFDS; nothing is read before a data set is built, and nothing
is ever downloaded.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from richhf import feedback
from richhf.data.features import map_side
from richhf.data.prompts import ROWS, as_prefix
from tasks import sources
from tasks.augmentation import Augmentation
from tasks.chance import CAPTION_SALT, map_by_chance
from tasks.pictures import picture_steps
from tasks.registration import make_room, task_features
from tasks.richhf18k import T5_VOCABULARY

TFDS_NAME = "coco_captions/2014:1.1.0"
TFDS_SPLITS = {"train": "train+restval", "dev": "val", "test": "test"}
"""The splits of Karpathy and Li 2015, with what they leave over in training."""
CAPTION_FEATURES = ("image", "inputs", "targets", "shown_tokens")
_RECORD = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "caption": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
    "filename": tf.io.FixedLenFeature([], tf.string, default_value=""),
}


def register(
    data_dir: str | os.PathLike | None = None,
    *,
    tfds_name: str = TFDS_NAME,
    tfds_data_dir: str | None = None,
    tfds_splits: Mapping[str, str] | None = None,
    vocabulary: seqio.Vocabulary | None = None,
    with_empty_labels: bool = False,
    augmentation: Augmentation | None = None,
    shuffle_buffer_size: int = 1000,
) -> tuple[str, ...]:
    """Registers a task for each variant of the model; again as often as wanted.

    Task features are `image`, `inputs` (every row is the task string `caption`; a model that has no labels
    for the other outputs runs one row), `targets` (the caption) and `shown_tokens` (its tokens), as in
    `tasks.registration.add_tasks`. Of several captions of an image training takes one by chance, evaluation
    the first.

    Args:
      data_dir: a folder of `{split}-*-of-*.tfrecord` files of `tf.train.Example` with `image` (PNG or JPEG),
        `caption` (one or more) and perhaps `filename`; None: TFDS.
      tfds_name: name and version of a TFDS data set with the features of `coco_captions`.
      tfds_data_dir: where TFDS keeps its data; its default if None.
      tfds_splits: split of the TFDS data set for each split here; `TFDS_SPLITS` if None.
      vocabulary: of inputs and targets; T5's if None.
      with_empty_labels: whether to add labels that train nothing, as a mixture with rich feedback needs.
      augmentation: how images are changed in training; None: not at all.
      shuffle_buffer_size: encoded examples held for shuffling the training stream.

    Returns:
      The names of the tasks, in the order of `VARIANTS`.
    """
    vocabulary = vocabulary or seqio.SentencePieceVocabulary(T5_VOCABULARY)
    names = []
    for variant in feedback.VARIANTS:
        names.append(f"{'unlabelled_' * with_empty_labels}captions_{variant}")
        make_room(seqio.TaskRegistry, names[-1])
        source: seqio.DataSource
        if data_dir is None:
            source = sources.TfdsImageSource(
                tfds_name,
                tfds_splits or TFDS_SPLITS,
                data_dir=tfds_data_dir,
                shuffle_buffer_size=shuffle_buffer_size,
            )
        else:
            source = sources.ExampleSource(
                {s: os.path.join(os.fspath(data_dir), f"{s}-*-of-*.tfrecord") for s in feedback.SPLITS},
                _RECORD,
                shuffle_buffer_size=shuffle_buffer_size,
                advice="Captions are record files with `image` and `caption`, see tasks.captioning.register.",
            )
        seqio.TaskRegistry.add(
            names[-1],
            source=source,
            preprocessors=[
                *([take_tfds_features] if data_dir is None else []),
                map_by_chance(choose_caption, salt=CAPTION_SALT, num_parallel_calls=None),
                tokenize_caption(len(ROWS[variant])),
                *picture_steps(exact_side=False, augmentation=augmentation),
                *([add_empty_labels] if with_empty_labels else []),
            ],
            output_features=task_features(vocabulary, None if with_empty_labels else CAPTION_FEATURES),
            shuffle_buffer_size=None,
        )
    return tuple(names)


@seqio.map_over_dataset(num_parallel_calls=None)
def take_tfds_features(example):
    """Names what is used of an example of TFDS's `coco_captions` as in record files."""
    named = {"caption": example["captions"]["text"], "filename": example["image/filename"]}
    others = ("captions", "image/filename", "image/id", "objects")
    return {name: value for name, value in example.items() if name not in others} | named


def choose_caption(example, seed):
    """Leaves one of an example's captions: any in training, else the first; an empty one if there is none."""
    captions = tf.concat([example["caption"], [""]], axis=0)
    count = tf.maximum(tf.size(captions) - 1, 1)
    chance = tf.random.stateless_uniform([], seed, 0, count, tf.int32)
    return {**example, "caption": captions[tf.where(example[sources.TRAINING], chance, 0)]}


def tokenize_caption(rows: int):
    """Makes the preprocessor that turns a caption into tokens.

    Args:
      rows: how many rows `inputs` has, all of them the task string.

    Returns:
      A SeqIO preprocessor that adds `inputs` int32 [t <=l], `targets` int32 [<=k] (cut to `targets` tokens:
      one that is cut has no end mark, so that it does not teach to stop early), `shown_tokens` int32 [<=l]
      and, for evaluation, `prompt`, `targets_pretokenized` and `keyword_valid`, which is False: no word is
      labelled.
    """

    def preprocessor(dataset, output_features, sequence_length: Mapping[str, int]):
        encode = CaptionEncoder(output_features, sequence_length)
        inputs = tf.constant([encode.inputs] * rows, tf.int32)

        def add_tokens(example):
            caption = example["caption"]
            targets, shown = tf.numpy_function(encode, [caption], [tf.int32, tf.int32], stateful=False)
            targets.set_shape([None])
            shown.set_shape([None])
            return {
                **{name: value for name, value in example.items() if name != "caption"},
                "inputs": inputs,
                "targets": targets,
                "shown_tokens": shown,
                "prompt": caption,
                "targets_pretokenized": caption,
                "keyword_valid": tf.constant(False),
            }

        # One at a time: it is Python.
        return dataset.map(add_tokens)

    return preprocessor


class CaptionEncoder:
    """Tokens of captions, and of the row that asks for one."""

    def __init__(self, output_features: Mapping[str, seqio.Feature], lengths: Mapping[str, int]):
        """An encoder with the lengths of `inputs` and `targets`.

        Raises:
          ValueError: the task string does not fit into `inputs`.
        """
        self.source, self.target = (output_features[name].vocabulary for name in ("inputs", "targets"))
        self.input_length, self.target_length = lengths["inputs"], lengths["targets"]
        self.inputs: Sequence[int] = [
            *self.source.encode(as_prefix(feedback.CAPTION_TASK_STRING)),
            self.source.eos_id,
        ]
        if len(self.inputs) > self.input_length:
            raise ValueError(
                f"TASK_FEATURE_LENGTHS['inputs'] is {self.input_length}: with this vocabulary the task "
                f"string for captions and its end mark need {len(self.inputs)}."
            )

    def __call__(self, caption: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Targets and shown tokens; none for an empty caption."""
        text = caption.decode(errors="replace").strip()
        targets = [*self.target.encode(text), self.target.eos_id] if text else []
        shown = self.source.encode(text)
        return (
            np.array(targets[: self.target_length], np.int32),
            np.array(shown[: self.input_length], np.int32),
        )


@seqio.map_over_dataset
def add_empty_labels(example, sequence_length: Mapping[str, int]):
    """Adds maps, scores and word labels that train nothing."""
    maps, scores, side = len(feedback.HEATMAPS), len(feedback.SCORES), map_side(sequence_length)
    return {
        **example,
        "heatmaps": tf.zeros([maps, side, side], tf.uint8),
        "heatmap_weights": tf.zeros([maps]),
        "scores": tf.zeros([scores]),
        "score_weights": tf.zeros([scores]),
        "word_labels": tf.fill([sequence_length["inputs"]], -1),
    }


register()
