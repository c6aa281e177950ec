"""RichHF-18K with its images and prompts (`richhf prepare`) as SeqIO tasks: `richhf18k_multi_head` and
`richhf18k_augmented_prompt`.

Images may have any size and shape: each is resized to a square of TASK_FEATURE_LENGTHS["image"] pixels, and
its maps (512 x 512 as released) to TASK_FEATURE_LENGTHS["heatmaps"]. Records whose labels and words differ in
number, of which RichHF-18K has some, train everything but the keywords.

Importing this module registers the tasks over the folder in the environment variable RICHHF_RICHHF18K_DIR, or
else `build/richhf18k`; nothing is read before a data set is built. Call `register` for another folder,
another vocabulary or augmentation.
"""

import os
from collections.abc import Mapping

import seqio

from richhf import feedback
from richhf.data.prompts import PLAIN
from tasks.augmentation import Augmentation
from tasks.registration import add_tasks

T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
"""SentencePiece model of T5 and its published checkpoints: 32,000 pieces and 100 sentinels."""


def register(
    data_dir: str | os.PathLike,
    *,
    vocabulary: seqio.Vocabulary | None = None,
    augmentation: Augmentation | None = None,
    prompt_form: str = PLAIN,
    task_strings: Mapping[str, str] | None = None,
    shuffle_buffer_size: int = 1000,
) -> tuple[str, ...]:
    """Registers both tasks over a folder written by `richhf prepare`; again as often as wanted.

    Args:
      data_dir: the folder.
      vocabulary: of prompts and keyword targets; T5's (`T5_VOCABULARY`) if None.
      augmentation: how pictures are changed in training, and only there; None: not at all.
      prompt_form: how prompts are written before they become tokens: `plain`, or `words`, as the first
        author's weights read them.
      task_strings: what stands before the prompt to ask for each output; None: this project's.
      shuffle_buffer_size: encoded records held for shuffling the training stream.

    Returns:
      The names of the tasks, in the order of `VARIANTS`.
    """
    data_dir = os.fspath(data_dir)
    return add_tasks(
        "richhf18k",
        {split: os.path.join(data_dir, f"{split}-*-of-*.tfrecord") for split in feedback.SPLITS},
        vocabulary or seqio.SentencePieceVocabulary(T5_VOCABULARY),
        exact_side=False,
        augmentation=augmentation,
        prompt_form=prompt_form,
        task_strings=task_strings,
        shuffle_buffer_size=shuffle_buffer_size,
        advice=f"Make them with `richhf prepare --richhf DIR --images SOURCE --out {data_dir}`.",
    )


register(os.environ.get("RICHHF_RICHHF18K_DIR", os.path.join("build", "richhf18k")))
