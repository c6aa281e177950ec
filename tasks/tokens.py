"""Which tokens belong to which word, for any SeqIO vocabulary."""

import itertools
from collections.abc import Sequence

import numpy as np
import seqio
from jaxtyping import Int

from richhf.data import words

Span = tuple[int, int]


class WordTokenizer:
    """Tokenises a prompt and says which characters each token covers.

    Pieces of SentencePiece never cross a space, so the pieces of a text are those of its chunks between
    spaces, one after the other. Chunks come back often: each is tokenised once. Where a vocabulary works
    otherwise (bytes, say) the spans are read off by decoding longer and longer beginnings of the text.
    """

    def __init__(self, vocabulary: seqio.Vocabulary, *, cache_size: int = 50_000):
        """A tokenizer that remembers up to `cache_size` chunks."""
        self.vocabulary = vocabulary
        self._cache: dict[str, tuple[list[int], list[Span]]] = {}
        self._cache_size = cache_size

    def encode(self, text: str) -> tuple[list[int], list[Span] | None]:
        """Token ids of a text, without end mark, and the characters that each covers.

        Args:
          text: any text.

        Returns:
          Token ids, exactly `vocabulary.encode(text)`, and for each a half-open range of characters of the
          text; None for the ranges if the vocabulary does not give back the text that it encoded.
        """
        whole = [int(i) for i in self.vocabulary.encode(text)]
        ids: list[int] = []
        spans: list[Span] = []
        start = 0
        for chunk in text.split():
            start = text.index(chunk, start)
            chunk_ids, chunk_spans = self._encode_chunk(chunk)
            ids.extend(chunk_ids)
            spans.extend((start + first, start + last) for first, last in chunk_spans)
            start += len(chunk)
        return (whole, spans) if ids == whole else (whole, self._spans(text, whole))

    def _encode_chunk(self, chunk: str) -> tuple[list[int], list[Span]]:
        if chunk not in self._cache:
            ids = [int(i) for i in self.vocabulary.encode(chunk)]
            # A piece that cannot be decoded (unknown letters) makes the whole chunk one unit.
            spans = self._spans(chunk, ids) or [(0, len(chunk))] * len(ids)
            if len(self._cache) >= self._cache_size:
                self._cache.clear()
            self._cache[chunk] = ids, spans
        return self._cache[chunk]

    def _spans(self, text: str, ids: list[int]) -> list[Span] | None:
        if self.vocabulary.decode(ids) != text:
            return None
        ends = [len(self.vocabulary.decode(ids[:count])) for count in range(len(ids) + 1)]
        return list(itertools.pairwise(ends))


def label_tokens(
    prompt: str, spans: Sequence[Span] | None, flags: Sequence[bool], count: int
) -> Int[np.ndarray, " l"]:
    """The label of each token of a prompt: 1 in a misaligned word, 0 in an aligned one, -1 in none
    (punctuation).

    Args:
      prompt: the prompt.
      spans: for each token the characters that it covers, or None if unknown: then every label is -1.
      flags: for each word of the prompt, whether it is misaligned.
      count: number of tokens.

    Returns:
      int32, one label a token. A token over two words is misaligned if one of them is.
    """
    labels = np.full(count, -1, np.int32)
    if spans is None:
        return labels
    word_spans = words.word_spans(prompt)
    first = 0
    for token, (start, end) in enumerate(spans):
        while first < len(word_spans) and word_spans[first][1] <= start:
            first += 1
        for (word_start, _), flag in zip(word_spans[first:], flags[first:], strict=True):
            if word_start >= end:
                break
            labels[token] = max(labels[token], int(flag))
    return labels
