"""Batches for training and evaluation, from SeqIO tasks.

The tasks themselves are registered elsewhere (`tasks/`); here they are known by name.
"""

import dataclasses
import difflib
import functools
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
import seqio
import tensorflow as tf

from richhf.data import records
from richhf.data.features import RichFeedbackFeatureConverter, map_side
from richhf.data.framing import DamagedFileError, TruncatedFileError, skip_through

_Spec = seqio.FeatureConverter.FeatureSpec
EVALUATION_FEATURES = {
    "filename": _Spec(tf.string, rank=0),
    "prompt": _Spec(tf.string, rank=0),
    "targets_pretokenized": _Spec(tf.string, rank=0),
    "keyword_valid": _Spec(tf.bool, rank=0),
}


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """Which examples, in which form. Field names are T5X's.

    Attributes:
      mixture_or_task_name: a registered SeqIO task or mixture.
      task_feature_lengths: `image` (side in pixels), `inputs` and `targets` (tokens), and `heatmaps` (side of
        the true maps in pixels) where it is not the image's.
      split: `train`, `dev` or `test`.
      batch_size: examples in a batch, over all hosts.
      shuffle: whether to shuffle. A stream of the training split is one for training (prompt corruption) only
        if so.
      seed: of shuffling and corruption; None draws one, and the stream cannot be repeated.
      num_examples: use only so many examples, from the start of the split (evaluation only); None: all.
      module: a Python module to import first, which registers the task.
    """

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int]
    split: str
    batch_size: int
    shuffle: bool = False
    seed: int | None = None
    num_examples: int | None = None
    module: str | None = None


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """One batch with its raw texts, which cover the first `valid` rows.

    Attributes:
      features: model features as numpy arrays; rows from `valid` on are padding: zeros, and -1 as word
        labels.
      valid: number of examples.
      examples: number of examples in this batch on all hosts.
      filenames: of the images.
      prompts: as in the records.
      keywords: the prompts with misaligned words marked, uncut.
      keyword_valid: whether labels and words agree; where not, `keywords` is the bare prompt.
    """

    features: dict[str, np.ndarray] = dataclasses.field(repr=False)
    valid: int
    examples: int
    filenames: tuple[str, ...]
    prompts: tuple[str, ...]
    keywords: tuple[str, ...]
    keyword_valid: tuple[bool, ...]


def get_task(cfg: DatasetConfig) -> seqio.Task | seqio.Mixture:
    """The task or mixture of a configuration, after checks that need no decoding.

    Args:
      cfg: the configuration.

    Returns:
      The provider.

    Raises:
      ValueError: for an unknown task or split, no record files, a file cut short, pictures of another side
        where the task does not resize them, no vocabulary, no examples asked for, or a batch that hosts
        cannot share.
    """
    if cfg.module:
        importlib.import_module(cfg.module)
    name, names = cfg.mixture_or_task_name, {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    if name not in names:
        raise ValueError(
            f"No task or mixture is named {name!r}.{_near(name, names)} "
            f"Known: {', '.join(sorted(names)) or 'none; import the module that registers it'}."
        )
    provider = seqio.get_mixture_or_task(name)
    if cfg.split not in provider.splits:
        raise ValueError(
            f"{name} has no split {cfg.split!r}.{_near(cfg.split, provider.splits)} "
            f"It has {', '.join(provider.splits)}."
        )
    if cfg.batch_size < 1:
        raise ValueError(f"BATCH_SIZE is {cfg.batch_size}; expected at least 1.")
    if cfg.num_examples is not None and cfg.num_examples < 1:
        raise ValueError(f"num_examples is {cfg.num_examples}; expected at least 1, or None for all.")
    for task in split_tasks(provider, cfg.split):
        files = task.source.list_shards(cfg.split)
        if isinstance(task.source, seqio.TFExampleDataSource):
            local = [file for file in files if os.path.isfile(file)]
            _check_whole(local)
            if local and getattr(task.source, "exact_side", False):
                _check_sides(local[0], cfg.task_feature_lengths)
    path = getattr(provider.output_features["inputs"].vocabulary, "sentencepiece_model_file", None)
    if path:
        _check_vocabulary_file(name, path)
    return provider


def split_tasks(provider: seqio.Task | seqio.Mixture, split: str) -> list[seqio.Task]:
    """The tasks of a mixture that have a split (a task is a mixture of itself), in the mixture's order."""
    return [task for task in seqio.get_subtasks(provider) if split in task.splits]


def share_of(cfg: DatasetConfig, share: tuple[int, int] | None) -> tuple[int, int, int]:
    """A host's part of each batch: its number, the number of parts, and the rows of one.

    Args:
      cfg: says the batch size.
      share: number and number of parts; None: a part for each process.

    Raises:
      ValueError: the batch is not divided by the number of parts.
    """
    index, count = share or (jax.process_index(), jax.process_count())
    if cfg.batch_size % count:
        raise ValueError(
            f"BATCH_SIZE is {cfg.batch_size}, expected a positive multiple of {count}, the parts that hosts "
            "read a batch in."
        )
    return index, count, cfg.batch_size // count


def eval_batches(
    cfg: DatasetConfig, share: tuple[int, int] | None = None, *, dataset: tf.data.Dataset | None = None
) -> Iterator[EvalBatch]:
    """All examples of a split, once and in order, in batches of one size.

    Every host goes through all batches, so that all make the same number of steps.

    Args:
      cfg: what to read.
      share: which part of each batch this host takes, and how many there are: (0, 1) for all of it; None:
        a part for each process.
      dataset: what `eval_dataset` made of the configuration, to go through again; None: it is made.

    Yields:
      Batches of `batch_size / parts` rows, the last filled up with padding.

    Raises:
      ValueError: see `get_task` and `share_of`.
    """
    dataset = eval_dataset(cfg) if dataset is None else dataset
    index, _, rows = share_of(cfg, share)
    start = index * rows
    for batch in dataset.as_numpy_iterator():
        examples = len(batch["filename"])
        texts = {name: batch.pop(name)[start : start + rows] for name in EVALUATION_FEATURES}
        features = {name: values[start : start + rows] for name, values in batch.items()}
        valid = len(texts["filename"])
        yield EvalBatch(
            features={
                name: _fill(values, rows, -(name == "word_labels")) for name, values in features.items()
            },
            valid=valid,
            examples=examples,
            filenames=tuple(text.decode() for text in texts["filename"]),
            prompts=tuple(text.decode() for text in texts["prompt"]),
            keywords=tuple(text.decode() for text in texts["targets_pretokenized"]),
            keyword_valid=tuple(bool(value) for value in texts["keyword_valid"]),
        )


def eval_dataset(cfg: DatasetConfig) -> tf.data.Dataset:
    """The batches of a split, of all hosts together, with the features of `EVALUATION_FEATURES`.

    Raises:
      ValueError: see `get_task`.
    """
    provider = get_task(cfg)
    converter = RichFeedbackFeatureConverter(passthrough_features=EVALUATION_FEATURES)
    parts = []
    for task in split_tasks(provider, cfg.split):
        dataset = task.get_dataset(
            cfg.task_feature_lengths,
            split=cfg.split,
            shuffle=cfg.shuffle,
            seed=cfg.seed,
            num_epochs=1,
            trim_output_features=False,
        )
        parts.append(converter(dataset, cfg.task_feature_lengths))
    whole = functools.reduce(lambda before, part: before.concatenate(part), parts)
    if cfg.num_examples is not None:
        whole = whole.take(cfg.num_examples)
    return whole.batch(cfg.batch_size).prefetch(1).with_options(pipeline_options())


def pipeline_options() -> tf.data.Options:
    """Leaves threads and buffers as written: as fast here, and no more of either than the pipeline names."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    options.experimental_optimization.map_parallelization = False
    return options


def _fill(values: np.ndarray, rows: int, fill: int) -> np.ndarray:
    padding = np.full((rows - len(values), *values.shape[1:]), fill, values.dtype)
    return np.concatenate([values, padding])


def _check_whole(files: Sequence[str]) -> None:
    """Checks that no file is cut short."""
    for file in files:
        try:
            skip_through(file)
        except (TruncatedFileError, DamagedFileError) as error:
            raise ValueError(
                f"{file} is cut short or no record file: {error}. Copy it again, or remove it and make it "
                "again."
            ) from error


def _check_sides(file: str, lengths: Mapping[str, int]) -> None:
    """Checks the sides of the first record's image and maps."""
    record = next(records.read_records(file), None) if "image" in lengths else None
    if record is None or record.image is None:
        return
    for what, name, pictures, side in (
        ("images", "image", [record.decode_image()], lengths["image"]),
        ("maps", "heatmaps", list(record.heatmaps.values()), map_side(lengths)),
    ):
        sizes = {picture.shape[:2] for picture in pictures}
        if sizes != {(side, side)}:
            raise ValueError(
                f"{file} has {what} of (height, width) {sorted(sizes)}, expected {(side, side)}: set "
                f"TASK_FEATURE_LENGTHS[{name!r}] to the records' (for images also the model's image size), "
                "or make new records."
            )


def _check_vocabulary_file(name: str, path: str) -> None:
    try:
        problem = None if tf.io.gfile.exists(path) else "does not exist"
    except tf.errors.OpError as error:
        problem = f"cannot be read ({error.message.splitlines()[0]})"
    if problem:
        raise ValueError(
            f"The vocabulary of {name}, {path}, {problem}. `richhf synthesize` writes one beside its "
            "records; for other data name a SentencePiece model that can be read: VOCABULARY in gin, or "
            "`vocabulary` where the task is registered."
        )


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=2)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
