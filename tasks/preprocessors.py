"""From a parsed record to the task's features: labels and tokens.

Work on words is Python (`richhf.data.words`), called by `tf.numpy_function`; it depends on its arguments
alone, so that a stream can be saved and continued.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from richhf import feedback
from richhf.data import records, words
from richhf.data.prompts import PLAIN, PromptRows, in_form
from richhf.data.targets import KeywordTarget
from tasks.tokens import target_vocabulary

COPY = "copy_prompt"
"""Boolean feature of examples whose keyword target is the bare prompt (the decoder learns to copy first)."""
SHOWN = {"prompt": "shown_prompt", "prompt_misalignment_label": "shown_label"}
"""The record's prompt and label, which tell what the image shows, also where the prompt is corrupted."""


@seqio.map_over_dataset(num_parallel_calls=None)
def gather_labels(example):
    """Puts the scores in one vector in the order of `SCORES`, and gives every label that is not yet weighted
    weight 1.

    Returns:
      The example with `scores` f32 [4], `score_weights` f32 [4] and `heatmap_weights` f32 [2], and a copy of
      prompt and label as `SHOWN`. Reading stops at a score that is not in [0, 1].
    """
    scores = tf.stack([example[records.SCORE_FEATURES[name]] for name in feedback.SCORES])
    in_range = tf.reduce_all((scores >= 0) & (scores <= 1))
    message = ["Record", example["filename"], "has the scores", scores, "; expected numbers in [0, 1]."]
    with tf.control_dependencies([tf.debugging.Assert(in_range, message)]):
        scores = tf.identity(scores)
    weights = {
        "score_weights": tf.ones(len(feedback.SCORES)),
        "heatmap_weights": tf.ones(len(feedback.HEATMAPS)),
        COPY: tf.constant(False),
        **{copy: example[name] for name, copy in SHOWN.items()},
    }
    kept = {name: value for name, value in example.items() if name not in records.SCORE_FEATURES.values()}
    return {**weights, **kept, "scores": scores}


def tokenize(prefixes: Sequence[str], *, see_prompt: bool = True, prompt_form: str = PLAIN):
    """Makes the preprocessor that turns prompt and labels into tokens.

    Args:
      prefixes: one entry a row of `inputs`: what stands before the prompt (`prompts.row_prefixes`).
      see_prompt: False leaves the prompt out of `inputs`: what a model then learns, an image alone tells.
      prompt_form: how prompts are written, in `inputs` and `targets` (`prompts.PROMPT_FORMS`).

    Returns:
      A SeqIO preprocessor that adds

      * `inputs` int32 [t l]: each row is a task string, the prompt and the end mark, padded with 0. The
        longest prompt that fits is kept, and the end mark always.
      * `word_labels` int32 [l] over the last row: 1 on tokens of a misaligned word, 0 on those of an aligned
        one, -1 elsewhere.
      * `shown_tokens` int32 [<=l]: the tokens of the aligned words of `SHOWN`; what the image shows.
      * `targets` int32 [k]: the prompt with its misaligned words marked, and the end mark. Empty, so that it
        trains nothing, if labels and words differ in number, if it is longer than `targets` may be, or if the
        prompt was cut in `inputs`: a cut text teaches to stop early, and what was cut off cannot be copied.
      * `targets_pretokenized` (the whole marked prompt) and `keyword_valid` (labels and words agree), for
        evaluation.
    """

    def preprocessor(dataset, output_features, sequence_length=None):
        encoder = PromptEncoder(prefixes, output_features, sequence_length or {}, see_prompt, prompt_form)
        rows, length = len(prefixes), (sequence_length or {}).get("inputs")

        def add_tokens(example):
            names = (*SHOWN, COPY, *SHOWN.values())
            arguments = [example[name] for name in names]
            types = [tf.int32, tf.int32, tf.int32, tf.string, tf.bool, tf.int32]
            inputs, labels, targets, marked, valid, shown = tf.numpy_function(
                encoder, arguments, types, stateful=False
            )
            inputs.set_shape([rows, length])
            labels.set_shape([length])
            shown.set_shape([None])
            targets.set_shape([None])
            marked.set_shape([])
            valid.set_shape([])
            return {
                **example,
                "inputs": inputs,
                "word_labels": labels,
                "shown_tokens": shown,
                "targets": targets,
                "targets_pretokenized": marked,
                "keyword_valid": valid,
            }

        # One at a time: it is Python.
        return dataset.map(add_tokens)

    return preprocessor


class PromptEncoder:
    """Tokens of one prompt, which is tokenised once for all rows; the task strings never again."""

    def __init__(
        self,
        prefixes: Sequence[str],
        output_features: Mapping[str, seqio.Feature],
        lengths: Mapping[str, int],
        see_prompt: bool = True,
        prompt_form: str = PLAIN,
    ):
        """An encoder for rows as in `tokenize`, with the lengths of `inputs` and `targets` where given."""
        self.see_prompt, self.prompt_form = see_prompt, prompt_form
        source, target = output_features["inputs"].vocabulary, output_features["targets"].vocabulary
        self.source = target_vocabulary(source)
        self.target = self.source if target is source else target_vocabulary(target)
        self.target_length = lengths.get("targets")
        self.rows = PromptRows(source.encode, source.eos_id, prefixes, lengths.get("inputs"))

    def __call__(
        self,
        prompt: bytes,
        label: bytes,
        copy: bool,
        shown_prompt: bytes | None = None,
        shown_label: bytes | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bytes, np.bool_, np.ndarray]:
        """Inputs, word labels, targets, marked prompt, whether labels and words agree, and shown tokens.

        See `tokenize`; the prompt itself tells what is shown if no other does.
        """
        text = prompt.decode()
        source, labels, flags = own = self._labelled(text, label)
        if shown_prompt is None or shown_label is None or shown_prompt == prompt:
            shown_source, shown_labels, _ = own
        else:
            shown_source, shown_labels, _ = self._labelled(shown_prompt.decode(), shown_label)
        shown = np.array(shown_source.segmentation.ids, np.int32)[shown_labels == 0][: self.rows.length]
        ids = source.segmentation.ids
        if not self.see_prompt:
            ids, labels = [], labels[:0]
        inputs, word_labels, fits = self._inputs(ids, labels)
        marked = words.mark_misaligned(text, flags or [False] * len(words.split_words(text)))
        targets = []
        if flags is not None and fits:
            target = source if self.target is self.source else KeywordTarget(source.prompt, self.target)
            targets = target.encode([False] * len(flags) if copy else flags)
            if self.target_length is not None and len(targets) > self.target_length:
                targets = []
        valid = np.bool_(flags is not None)
        return inputs, word_labels, np.array(targets, np.int32), marked.encode(), valid, shown

    def _labelled(self, text: str, label: bytes) -> tuple[KeywordTarget, np.ndarray, list[bool] | None]:
        """Returns a prompt's targets, token labels and flags of its words (None if the labels do not fit)."""
        target = KeywordTarget(in_form(text, self.prompt_form), self.source)
        try:
            flags = [flag for _, flag in words.match_labels_to_words(text, label.decode())]
        except words.LabelMismatch:
            return target, np.full(len(target.segmentation.ids), -1, np.int32), None
        return target, np.array(target.label_tokens(flags), np.int32), flags

    def _inputs(self, ids: list[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        inputs = self.rows(ids)
        length = inputs.shape[1]
        word_labels = np.full(length, -1, np.int32)
        start = len(self.rows.prefixes[-1])
        end = min(start + len(ids), length - 1)
        word_labels[start:end] = labels[: end - start]
        return inputs, word_labels, start + len(ids) < length
