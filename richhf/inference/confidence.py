"""How sure the decoder is of each word: the probability that it goes on with the suffix `_0`, or without.

The decoder writes the prompt again, and after the pieces of a word decides: the suffix, or what follows the
word. To ask it about every word, it is given (teacher forcing) the prompt marked as it was decided, so that a
slip in copying changes nothing. For a word, that text and the same text with this one word marked the other
way part at one token; there the decoder has a probability for either, and

    confidence = P(token of the marked) / (P(token of the marked) + P(token of the unmarked))

given the image, the prompt and the text before. This holds for any SentencePiece vocabulary: whether the
suffix is a piece of its own, two, or part of the word's last one, two texts part at one token. Where greedy
decoding copies exactly, a flagged word has a half or more, and one that is not flagged a half or less.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from richhf.data.targets import KeywordTarget

NOWHERE = -1


class Choices(NamedTuple):
    """Where the decoder decides on the words of one prompt.

    Attributes:
      inputs: the decoder's inputs [k], the marked prompt shifted right.
      places: for each word the position whose next token decides, or `NOWHERE` if there is none; [k].
      marked: the token there of a text in which the word is marked; [k].
      plain: and of one in which it is not; [k].
    """

    inputs: Int[np.ndarray, "..."]
    places: Int[np.ndarray, "..."]
    marked: Int[np.ndarray, "..."]
    plain: Int[np.ndarray, "..."]


def word_choices(
    target: KeywordTarget,
    flags: Sequence[bool],
    *,
    length: int,
    words_read: int | None = None,
) -> Choices:
    """Finds where the decoder decides on each word.

    Args:
      target: the targets of the prompt.
      flags: for each of its words, whether it was decided to be misaligned.
      length: tokens of the decoder; words further on, where it does not come to, are nowhere.
      words_read: how many of the words the model read, where it read not all; the others are nowhere.
    """
    flags = list(flags)
    decided = target.encode(flags)
    inputs, marked, plain = (np.zeros(length, np.int32) for _ in range(3))
    places = np.full(length, NOWHERE, np.int32)
    inputs[: len(decided) + 1] = [0, *decided][:length]
    for word in range(min(len(flags), length, len(flags) if words_read is None else words_read)):
        other = target.encode([flag != (index == word) for index, flag in enumerate(flags)])
        pairs = enumerate(zip(decided, other, strict=False))
        place, tokens = next(((i, pair) for i, pair in pairs if pair[0] != pair[1]), (length, (0, 0)))
        if place < length:
            places[word] = place
            marked[word], plain[word] = tokens if flags[word] else tokens[::-1]
    return Choices(inputs, places, marked, plain)


def confidences_of(
    count: int, places: Int[np.ndarray, "..."], values: Float[np.ndarray, "..."]
) -> tuple[float | None, ...]:
    """The confidences of a prompt's first words, as many as asked for; None for those that are nowhere."""
    known = zip(places[:count].tolist(), values[:count].tolist(), strict=True)
    found = [None if place == NOWHERE else value for place, value in known]
    return (*found, *[None] * (count - len(found)))


def suffix_probabilities(
    logits: Float[Array, "b k v"], choices: tuple[Int[Array, "b k"], Int[Array, "b k"], Int[Array, "b k"]]
) -> Float[Array, "b k"]:
    """For each word the probability that the decoder marks it; 0 for words that are nowhere.

    Args:
      logits: of the next token after each of `Choices.inputs`.
      choices: places, marked and plain of `Choices`, stacked.
    """
    places, marked, plain = choices
    there = jnp.take_along_axis(logits.astype(jnp.float32), jnp.maximum(places, 0)[..., None], axis=1)
    for_marked, for_plain = (
        jnp.take_along_axis(there, tokens[..., None], axis=2)[..., 0] for tokens in (marked, plain)
    )
    return jnp.where(places == NOWHERE, 0.0, jax.nn.sigmoid(for_marked - for_plain))
