"""Do data and model fit? Asked before anything is allocated or compiled."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from launch.gin_config import near
from richhf.atomic import atomic_path
from richhf.data.datasets import DatasetConfig, get_task, split_tasks
from richhf.data.features import LENGTHS, MAP_LENGTH, map_side
from richhf.data.records import Record, read_records
from richhf.feedback import AUGMENTED_PROMPT, MULTI_HEAD
from richhf.pretrained.model_config import read_json
from tasks.sources import RecordSource

VOCABULARY_FILE = "vocabulary.model"
PUBLISHED_ROWS, PUBLISHED_UNKNOWN = 32128, 2
SENTINEL = re.compile(r"\u2581?<extra_id_\d+>")
MOST_UNUSED_ROWS = 256
"""T5's embedding has 128 rows more than its vocabulary has pieces, at most: sentinels and padding."""


def register_task(register_tasks: Callable[[], Sequence[str]] | None, cfg: DatasetConfig) -> None:
    """Registers the tasks of a data file, and checks that the one to be read is among them.

    Raises:
      ValueError: MIXTURE_OR_TASK_NAME names another, be it registered or not: a model file's default, say.
    """
    names = register_tasks() if register_tasks else ()
    if names and cfg.mixture_or_task_name not in names:
        raise ValueError(
            f"MIXTURE_OR_TASK_NAME is {cfg.mixture_or_task_name!r}, which is not of this data file."
            f"{near(cfg.mixture_or_task_name, names)} It has {', '.join(names)}."
        )


def check_data_fit(model: Any, cfg: DatasetConfig) -> seqio.Task | seqio.Mixture:
    """Checks a data set against a `RichFeedbackModel`.

    Args:
      model: its config says image size, rows of the prompt and vocabulary size.
      cfg: what is to be read; the files of its split must be there.

    Returns:
      The task or mixture.

    Raises:
      ValueError: unknown task or split; no records; lengths, image size or vocabulary that do not fit.
    """
    check_lengths(cfg.task_feature_lengths)
    side, expected = cfg.task_feature_lengths["image"], model.config.vit.image_size
    if side != expected:
        raise ValueError(
            f"TASK_FEATURE_LENGTHS['image'] is {side}, but the model takes images of {expected} px "
            "(ViTConfig.image_size): set both to the size of the records."
        )
    provider = get_task(cfg)
    for task in split_tasks(provider, cfg.split):
        if isinstance(task.source, RecordSource):
            check_complete(task.source.list_shards(cfg.split)[0])
    vocabulary, rows = provider.output_features["inputs"].vocabulary, model.config.t5.vocab_size
    if vocabulary.vocab_size > rows:
        raise ValueError(
            f"the vocabulary of {cfg.mixture_or_task_name} has {vocabulary.vocab_size} pieces, but the "
            "model embeds "
            f"{rows} (T5Config.vocab_size): set it to {vocabulary.vocab_size} or more, or use the "
            "vocabulary that the "
            "checkpoint was trained with."
        )
    return provider


def check_vocabulary(provider: seqio.Task | seqio.Mixture, kept: Path) -> None:
    """Raises ValueError where a task's vocabulary is not the one that weights were trained with.

    Only SentencePiece vocabularies are compared. T5's sentinels may be in one of the two alone.

    Args:
      provider: the task.
      kept: the vocabulary beside the weights: a SentencePiece model, or Hugging Face's `tokenizer.json`.
    """
    vocabulary = provider.output_features["inputs"].vocabulary
    if not isinstance(vocabulary, seqio.SentencePieceVocabulary) or not kept.exists():
        return
    given, trained = pieces(vocabulary), file_pieces(kept)
    if without_sentinels(given) != without_sentinels(trained):
        places = (i for i, (one, other) in enumerate(zip(given, trained, strict=False)) if one != other)
        first = next(places, min(len(given), len(trained)))
        raise ValueError(
            f"the vocabulary of {provider.name}, {vocabulary.sentencepiece_model_file} "
            f"({vocabulary.vocab_size} pieces), is not the one that the run was trained with, {kept} "
            f"({len(trained)} pieces; the first difference is at {first}): the same token would be another "
            "word. Use the data and the vocabulary of that training (VOCABULARY), or start without its "
            "weights in a new MODEL_DIR."
        )


def file_pieces(file: Path) -> list[str]:
    """Returns what each token of a vocabulary file stands for, in order.

    Raises:
      ValueError: it is a `tokenizer.json` without a vocabulary of SentencePiece.
    """
    if file.suffix != ".json":
        return pieces(seqio.SentencePieceVocabulary(str(file)))
    values = read_json(file).get("model", {}).get("vocab")
    if not isinstance(values, list) or not all(isinstance(one, list) and one for one in values):
        raise ValueError(f"{file} has no Unigram vocabulary, as T5's has: move it away, or put T5's there.")
    return [one[0] for one in values]


def pieces(vocabulary: seqio.SentencePieceVocabulary) -> list[str]:
    """What each token stands for, in order."""
    return [vocabulary.tokenizer.id_to_piece(i) for i in range(vocabulary.tokenizer.get_piece_size())]


def without_sentinels(names: Sequence[str]) -> list[str]:
    """Returns the pieces without T5's sentinels at the end, which only some of its vocabulary files have."""
    names = list(names)
    while names and SENTINEL.fullmatch(names[-1]):
        names.pop()
    return names


def check_embedding_used(provider: seqio.Task | seqio.Mixture, model: Any) -> None:
    """Raises ValueError where a vocabulary is not that of a pretrained T5 which came without one.

    An embedding has some rows more than its vocabulary has pieces: T5's sentinels, and padding. The published
    T5 (32,128 rows) have `<unk>` at 2; some of T5's vocabulary files have `<s>` there and shift all others.
    """
    vocabulary, rows = provider.output_features["inputs"].vocabulary, model.config.t5.vocab_size
    unknown = vocabulary.unk_id
    if vocabulary.vocab_size + MOST_UNUSED_ROWS < rows:
        reason = f"it has {vocabulary.vocab_size} pieces, but the T5 embeds {rows} tokens"
    elif rows == PUBLISHED_ROWS and unknown != PUBLISHED_UNKNOWN:
        reason = f"its <unk> is token {unknown}, that of the published T5 is {PUBLISHED_UNKNOWN}"
    else:
        return
    raise ValueError(
        f"the vocabulary of {provider.name} is not that of the T5 in INITIAL_CHECKPOINT_PATH: {reason}, so "
        "that the same token would be another word. Set VOCABULARY to the spiece.model of the T5; if it was "
        f"trained with this vocabulary, put that beside its weights as {VOCABULARY_FILE}."
    )


def keep_vocabulary(provider: seqio.Task | seqio.Mixture, model_dir: str | Path) -> None:
    """Keeps a task's SentencePiece model as MODEL_DIR/vocabulary.model; other vocabularies have no file."""
    vocabulary = provider.output_features["inputs"].vocabulary
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        with atomic_path(Path(model_dir) / VOCABULARY_FILE) as temporary:
            temporary.write_bytes(vocabulary.sp_model)


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raises ValueError unless lengths has the keys of LENGTHS, and perhaps the maps', all positive."""
    if sorted({*lengths} - {MAP_LENGTH}) != sorted(LENGTHS) or any(
        not isinstance(value, int) or value < 1 for value in lengths.values()
    ):
        raise ValueError(
            f"TASK_FEATURE_LENGTHS is {dict(lengths)}, expected positive numbers for {', '.join(LENGTHS)} "
            f"(and {MAP_LENGTH}, where true maps are not as large as images), such as "
            "{'image': 64, 'inputs': 40, 'targets': 40}."
        )


def check_map_size(model: Any, lengths: Mapping[str, int]) -> None:
    """Raises ValueError unless true maps can be averaged to the predicted maps' size, as the loss does."""
    side, predicted = map_side(lengths), model.config.map_size
    if side % predicted:
        raise ValueError(
            f"TASK_FEATURE_LENGTHS gives true maps of {side} px ({MAP_LENGTH!r}, or else 'image'), but the "
            f"model predicts maps of {predicted} px (ViTConfig.image_size / ViTConfig.patch_size, doubled by "
            "each of HeatmapHeadConfig.deconv_widths), and the loss averages whole blocks: set "
            f"{MAP_LENGTH!r} to {predicted} or a multiple of it."
        )


def check_complete(file: str) -> None:
    """Raises ValueError unless the first record of a file has an image and a prompt."""
    record = next(read_records(file), None)
    if record is None:
        raise ValueError(f"{file} holds no record: write the data set again.")
    check_usable(record, file, 0)


def check_usable(record: Record, file: str, index: int) -> None:
    """Raises ValueError unless a record has a prompt and an image that can be decoded."""
    missing = [name for name in ("image", "prompt") if not getattr(record, name)]
    if missing:
        raise ValueError(
            f"{file}, record {index}, has no {' and no '.join(missing)}: a record needs the encoded "
            "image and its prompt beside the labels (`richhf inspect` shows what a file holds)."
        )
    record.decode_image()


@contextlib.contextmanager
def explained_reading(provider: seqio.Task | seqio.Mixture, split: str) -> Iterator[None]:
    """Turns an error of the input pipeline inside the block into one that names the malformed record.

    Raises:
      ValueError: the first malformed record of the split's files, if there is one; else what the pipeline
        says.
    """
    try:
        yield
    except tf.errors.OpError as error:
        sources = [task.source for task in split_tasks(provider, split)]
        for source in sources:
            for file in source.list_shards(split) if isinstance(source, RecordSource) else ():
                for index, record in enumerate(read_records(file)):
                    check_usable(record, file, index)
        raise ValueError(f"reading {provider.name}, split {split}: {error.message}") from error


def check_rows(model: Any, shape: Sequence[int], task_name: str) -> None:
    """Raises ValueError unless encoder_input_tokens [b t l] has as many rows as the model takes."""
    expected = model.config.rows
    if shape[1] != expected:
        fitting = MULTI_HEAD if expected == 1 else AUGMENTED_PROMPT
        other = {MULTI_HEAD: AUGMENTED_PROMPT, AUGMENTED_PROMPT: MULTI_HEAD}[fitting]
        raise ValueError(
            f"the task {task_name!r} gives {shape[1]} prompt row(s) an image, but the model is {fitting} "
            "and takes "
            f"{expected}: set MIXTURE_OR_TASK_NAME to {task_name.replace(other, fitting)!r}, or use the "
            "other model "
            "file."
        )
