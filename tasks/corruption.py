"""Prompts made wrong on purpose, in training only: a word is replaced, and so becomes a misaligned word that
is known.

Seeing the same picture with a right and a wrong word teaches to compare text and image with half the data.
How good the image is as a whole no longer matches the changed prompt, so those labels lose their weight for
that example. A model trained to the end like this sees more misalignment than there is: switch corruption off
before the end.
"""

import functools
import json
import os

import numpy as np
import tensorflow as tf

from richhf import feedback
from richhf.data import words
from richhf.data.stream import RECORD_NUMBER
from tasks.chance import CORRUPTION_SALT, map_by_chance, number
from tasks.preprocessors import COPY
from tasks.sources import TRAINING

MASKED_SCORES = ("alignment", "overall")
MASKED_HEATMAPS = ("misalignment",)


class Lexicon:
    """Words that may stand for one another in a prompt: categories of concepts, each with its words."""

    def __init__(self, categories: dict[str, dict[str, list[str]]]):
        """A lexicon from `{category: {concept: [words]}}`; a lone concept of a category stays as it is."""
        self._others: dict[str, list[str]] = {}
        for concepts in categories.values():
            for concept, surfaces in concepts.items():
                others = [w for name, group in concepts.items() if name != concept for w in group]
                for word in surfaces if others else ():
                    self._others.setdefault(word.lower(), others)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Lexicon":
        """Reads `lexicon.json`.

        Raises:
          ValueError: if there is none.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls(json.load(file))
        except FileNotFoundError:
            raise ValueError(
                f"Prompt corruption needs the words of each category, and {os.fspath(path)} does not "
                "exist: `richhf synthesize` writes it beside the records. Else set CORRUPTION_RATE to 0."
            ) from None

    def others(self, word: str) -> list[str]:
        """Words of the other concepts in the category of `word`; none if it is not in the lexicon."""
        return self._others.get(word.lower(), [])


def corrupt_prompt(
    prompt: str, flags: tuple[bool, ...], lexicon: Lexicon, rng: np.random.Generator
) -> tuple[str, tuple[bool, ...]]:
    """Replaces one or two aligned words of a prompt by words of other concepts in their categories.

    The first letter keeps its case, and an article before the word follows it (`an orange` -> `a blue`),
    unflagged: grammar must not give the change away.

    Args:
      prompt: the prompt.
      flags: for each word, whether it is misaligned.
      lexicon: the words that may stand for one another.
      rng: the source of chance.

    Returns:
      The new prompt and flags; the same ones if no aligned word is in the lexicon.
    """
    spans = words.word_spans(prompt)
    texts = [prompt[start:end] for start, end in spans]
    candidates = [i for i, text in enumerate(texts) if not flags[i] and lexicon.others(text)]
    if not candidates:
        return prompt, flags
    count = min(len(candidates), int(rng.integers(1, 3)))
    chosen = rng.choice(candidates, size=count, replace=False).tolist()
    new, new_flags = list(texts), list(flags)
    for i in chosen:
        others = lexicon.others(texts[i])
        word = others[rng.integers(len(others))]
        new[i] = word[:1].upper() + word[1:] if texts[i][:1].isupper() else word
        new_flags[i] = True
        if i and texts[i - 1].lower() in ("a", "an"):
            new[i - 1] = texts[i - 1][0] + ("n" if word[:1].lower() in "aeiou" else "")
    pieces, position = [], 0
    for (start, end), text in zip(spans, new, strict=True):
        pieces += [prompt[position:start], text]
        position = end
    return "".join([*pieces, prompt[position:]]), tuple(new_flags)


def corrupt_prompts(
    lexicon_path: str, *, rate: float = 0.0, until_example: int | None = None, copy_until_example: int = 0
):
    """Makes the preprocessor that corrupts prompts of a training stream, and of no other.

    It acts only where the source says that the example belongs to a training stream (`tasks.sources`), so the
    same task serves training and evaluation. Examples are counted over epochs and all hosts; in streams other
    than `richhf.data.stream`'s each host counts its own.

    Args:
      lexicon_path: the `lexicon.json` to replace words from; read when the data set is built, if `rate` > 0.
      rate: share of the examples to corrupt.
      until_example: no corruption from this example of the stream on; None: never stops.
      copy_until_example: before this example the keyword target is the prompt without marks (`copy_prompt`).

    Returns:
      A SeqIO preprocessor: changes `prompt` and `prompt_misalignment_label`; sets to 0 the weights of the
      scores `alignment` and `overall` and of the misalignment map where it did; sets `copy_prompt`.

    Raises:
      ValueError: for a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"The corruption rate is {rate}, expected a share in [0, 1].")

    def preprocessor(dataset):
        replace = functools.partial(_replace, lexicon=Lexicon.load(lexicon_path)) if rate else None

        def apply(example, seed):
            example = dict(example)
            index = example.pop(RECORD_NUMBER)
            if replace is not None:
                chance = tf.random.stateless_uniform([], seed)
                wanted = example[TRAINING] & (chance < rate)
                if until_example is not None:
                    wanted &= index < until_example
                arguments = [example["prompt"], example["prompt_misalignment_label"], wanted, seed]
                prompt, label, changed = tf.numpy_function(
                    replace, arguments, [tf.string, tf.string, tf.bool], stateful=False
                )
                for text, name in ((prompt, "prompt"), (label, "prompt_misalignment_label")):
                    text.set_shape([])
                    example[name] = text
                changed.set_shape([])
                example["score_weights"] *= _mask(feedback.SCORES, MASKED_SCORES, changed)
                example["heatmap_weights"] *= _mask(feedback.HEATMAPS, MASKED_HEATMAPS, changed)
            example[COPY] = example[TRAINING] & (index < copy_until_example)
            return example

        return map_by_chance(apply, salt=CORRUPTION_SALT, num_parallel_calls=None)(number(dataset))

    return preprocessor


def _mask(names: tuple[str, ...], masked: tuple[str, ...], changed: tf.Tensor) -> tf.Tensor:
    keep = tf.constant([0.0 if name in masked else 1.0 for name in names])
    return tf.where(changed, keep, tf.ones_like(keep))


def _replace(
    prompt: bytes, label: bytes, wanted: bool, seed: np.ndarray, *, lexicon: Lexicon
) -> tuple[bytes, bytes, np.bool_]:
    """New prompt, new label and whether they changed; a record whose labels do not match is left alone."""
    if not wanted:
        return prompt, label, np.bool_(False)
    text = prompt.decode()
    try:
        flags = tuple(flag for _, flag in words.match_labels_to_words(text, label.decode()))
    except words.LabelMismatch:
        return prompt, label, np.bool_(False)
    new, new_flags = corrupt_prompt(text, flags, lexicon, np.random.default_rng(seed))
    new_label = " ".join("0" if flag else "1" for flag in new_flags)
    return new.encode(), new_label.encode(), np.bool_(new != text)
