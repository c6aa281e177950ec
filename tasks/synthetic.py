"""The synthetic set (`richhf synthesize`) as SeqIO tasks: `synthetic_multi_head` and
`synthetic_augmented_prompt`.

Importing this module registers them over the folder in the environment variable RICHHF_SYNTHETIC_DIR, or else
`build/synthetic`; nothing is read before a data set is built. Call `register` for another folder or for
corruption.
"""

import os
from collections.abc import Mapping

import seqio

from richhf import feedback
from richhf.data.prompts import PLAIN
from tasks.registration import add_tasks


def register(
    data_dir: str | os.PathLike,
    *,
    vocabulary: seqio.Vocabulary | None = None,
    corruption_rate: float = 0.0,
    corrupt_until_example: int | None = None,
    copy_until_example: int = 0,
    see_prompt: bool = True,
    prompt_form: str = PLAIN,
    task_strings: Mapping[str, str] | None = None,
    shuffle_buffer_size: int = 1000,
) -> tuple[str, ...]:
    """Registers both tasks over a folder written by `richhf synthesize`; again as often as wanted.

    Args:
      data_dir: the folder.
      vocabulary: of prompts and keyword targets; the folder's own `vocabulary.model` if None.
      corruption_rate: share of the training examples whose prompt is corrupted, see `tasks.corruption`.
      corrupt_until_example: corruption stops at this example of the training stream; None: never.
      copy_until_example: before this example of the training stream, keyword targets are the bare prompt.
      see_prompt: False hides the prompt from the model: what it then learns, an image alone tells.
      prompt_form: how prompts are written before they become tokens: `plain`, or `words`, as the first
        author's weights read them.
      task_strings: what stands before the prompt to ask for each output; None: this project's.
      shuffle_buffer_size: encoded records held for shuffling the training stream.

    Returns:
      The names of the tasks, in the order of `VARIANTS`.
    """
    data_dir = os.fspath(data_dir)
    return add_tasks(
        "synthetic",
        {split: os.path.join(data_dir, f"{split}-*-of-*.tfrecord") for split in feedback.SPLITS},
        vocabulary or seqio.SentencePieceVocabulary(os.path.join(data_dir, "vocabulary.model")),
        lexicon_path=os.path.join(data_dir, "lexicon.json"),
        corruption_rate=corruption_rate,
        corrupt_until_example=corrupt_until_example,
        copy_until_example=copy_until_example,
        see_prompt=see_prompt,
        prompt_form=prompt_form,
        task_strings=task_strings,
        shuffle_buffer_size=shuffle_buffer_size,
        advice=f"Make the synthetic set with `richhf synthesize {data_dir}`.",
    )


register(os.environ.get("RICHHF_SYNTHETIC_DIR", os.path.join("build", "synthetic")))
