"""The two tasks of a data set of rich feedback, one for each variant of the model."""

from collections.abc import Collection, Mapping
from typing import Any

import seqio
import tensorflow as tf

from richhf import feedback
from richhf.data.prompts import PLAIN, check_prompt_form, row_prefixes
from tasks import corruption, metrics, preprocessors, sources
from tasks.augmentation import Augmentation
from tasks.pictures import picture_steps


def add_tasks(
    prefix: str,
    split_to_filepattern: Mapping[str, str],
    vocabulary: seqio.Vocabulary,
    *,
    lexicon_path: str = "",
    corruption_rate: float = 0.0,
    corrupt_until_example: int | None = None,
    copy_until_example: int = 0,
    see_prompt: bool = True,
    prompt_form: str = PLAIN,
    task_strings: Mapping[str, str] | None = None,
    exact_side: bool = True,
    augmentation: Augmentation | None = None,
    shuffle_buffer_size: int = 1000,
    advice: str = "",
) -> tuple[str, ...]:
    """Registers `{prefix}_multi_head` and `{prefix}_augmented_prompt`, in place of tasks of that name.

    Task features, for an image of `h` = TASK_FEATURE_LENGTHS["image"] pixels and maps of `m` =
    TASK_FEATURE_LENGTHS["heatmaps"] (if not given, `h`):

    | feature | | |
    |---|---|---|
    | `image` | uint8 [h h 3] | |
    | `inputs` | int32 [t l] | t = 1: the prompt; t = 7: row i asks for `OUTPUTS[i]` |
    | `heatmaps` | uint8 [2 m m] | 255 is 1.0; order of `HEATMAPS` |
    | `heatmap_weights` | f32 [2] | 0 where the label must not train |
    | `scores` | f32 [4] | in [0, 1]; order of `SCORES` |
    | `score_weights` | f32 [4] | |
    | `targets` | int32 [k] | marked prompt; empty where it must not train |
    | `word_labels` | int32 [l] | over the last row: 1 misaligned, 0 aligned, -1 no word |
    | `shown_tokens` | int32 [<=l] | of the words that the image shows, before any corruption |

    Beside them, for evaluation: `filename`, `prompt`, `targets_pretokenized` (strings) and `keyword_valid`.

    Args:
      prefix: the name of the data set.
      split_to_filepattern: a glob pattern of record files for each split.
      vocabulary: of `inputs` and `targets`; padding is 0.
      lexicon_path: words for prompt corruption.
      corruption_rate: share of the training examples whose prompt is corrupted (`tasks.corruption`).
      corrupt_until_example: corruption stops at this example of the training stream; None: never.
      copy_until_example: before this example of the training stream, keyword targets are the bare prompt.
      see_prompt: False hides the prompt from the model (`tasks.preprocessors.tokenize`).
      prompt_form: how prompts are written before they become tokens (`richhf.data.prompts.PROMPT_FORMS`).
      task_strings: what stands before the prompt to ask for each output; None: this project's.
      exact_side: whether pictures of another side than asked for are an error, instead of being resized.
      augmentation: how pictures are changed in training; None: not at all.
      shuffle_buffer_size: encoded records held for shuffling a training stream.
      advice: said when there are no records.

    Returns:
      The names of the tasks, in the order of `VARIANTS`.
    """
    check_prompt_form(prompt_form, task_strings, source=prefix)
    corrupt: tuple[Any, ...] = ()
    if corruption_rate or copy_until_example:
        corrupt = (
            corruption.corrupt_prompts(
                lexicon_path,
                rate=corruption_rate,
                until_example=corrupt_until_example,
                copy_until_example=copy_until_example,
            ),
        )
    names = []
    for variant in feedback.VARIANTS:
        name = f"{prefix}_{variant}"
        make_room(seqio.TaskRegistry, name)
        seqio.TaskRegistry.add(
            name,
            source=sources.RecordSource(
                split_to_filepattern,
                exact_side=exact_side,
                shuffle_buffer_size=shuffle_buffer_size,
                advice=advice,
            ),
            preprocessors=[
                preprocessors.gather_labels,
                *corrupt,
                preprocessors.tokenize(
                    row_prefixes(variant, task_strings), see_prompt=see_prompt, prompt_form=prompt_form
                ),
                *picture_steps(exact_side=exact_side, augmentation=augmentation),
            ],
            output_features=task_features(vocabulary),
            postprocess_fn=metrics.postprocess,
            metric_fns=[metrics.paper_metrics(vocabulary, prompt_form)],
            shuffle_buffer_size=None,
        )
        names.append(name)
    return tuple(names)


def task_features(
    vocabulary: seqio.Vocabulary, names: Collection[str] | None = None
) -> dict[str, seqio.Feature]:
    """The features of the table in `add_tasks`, or those of them that are named, as SeqIO declares them."""
    features = {
        "image": seqio.ContinuousFeature(dtype=tf.uint8, rank=3),
        "inputs": seqio.Feature(vocabulary, rank=2),
        "heatmaps": seqio.ContinuousFeature(dtype=tf.uint8, rank=3),
        "heatmap_weights": seqio.ContinuousFeature(dtype=tf.float32),
        "scores": seqio.ContinuousFeature(dtype=tf.float32),
        "score_weights": seqio.ContinuousFeature(dtype=tf.float32),
        "targets": seqio.Feature(vocabulary),
        "word_labels": seqio.ContinuousFeature(dtype=tf.int32),
        "shown_tokens": seqio.ContinuousFeature(dtype=tf.int32),
    }
    return {name: feature for name, feature in features.items() if names is None or name in names}


def make_room(registry: Any, name: str) -> None:
    """Removes what a SeqIO registry has under a name, if anything, so that it can be registered anew."""
    if name in registry.names():
        registry.remove(name)
