"""How a prompt is put before the model: rows of tokens, each asking for one output or for all.

The input pipeline (`tasks.preprocessors`) and inference both take them from here.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int32

from richhf import feedback

_WHITE = re.compile(r"\s")
ROWS: dict[str, tuple[str | None, ...]] = {
    feedback.MULTI_HEAD: (None,),
    feedback.AUGMENTED_PROMPT: feedback.OUTPUTS,
}
"""The rows of `inputs`: the prompt alone, or one row an output with its task string before the prompt."""


def prefix(output: str) -> str:
    """What is put before the prompt to ask for one output, as in `plausibility score: a red cat`."""
    return as_prefix(feedback.TASK_STRINGS[output])


def as_prefix(task_string: str) -> str:
    """A task string as it stands before a prompt."""
    return f"{task_string}: "


def as_one_line(prompt: str) -> str:
    """A prompt with line breaks, tabs and all other white space as spaces, as tokenizers see them.

    A space parts words and a line break does not (`richhf.data.words`, RichHF-18K's rule), so that words and
    tokens agree only then. Places in the text stay where they were.
    """
    return _WHITE.sub(" ", prompt)


class PromptRows:
    """Puts task strings, which are tokenised once, before the tokens of prompts.

    Attributes:
      prefixes: the tokens before the prompt, of each row.
      length: tokens of a row; None: as many as the prompt needs.
    """

    def __init__(
        self,
        encode: Callable[[str], Sequence[int]],
        eos_id: int,
        outputs: Sequence[str | None],
        length: int | None,
    ):
        """Rows for a vocabulary.

        Args:
          encode: text to token ids, without end mark.
          eos_id: the end mark.
          outputs: one entry a row: the output whose task string stands before the prompt, or None for the
            prompt alone.
          length: tokens of a row.

        Raises:
          ValueError: a row has no room for one token of the prompt.
        """
        self.prefixes = [[int(i) for i in encode(prefix(name))] if name else [] for name in outputs]
        self.length, self._eos_id = length, eos_id
        longest = max(map(len, self.prefixes)) + 2
        if length is not None and length < longest:
            raise ValueError(
                f"a prompt row has {length} tokens (TASK_FEATURE_LENGTHS['inputs'], or a model's "
                "prompt_length): with this vocabulary the longest task string, one token of the prompt and "
                f"the end mark need {longest}."
            )

    @property
    def room(self) -> int | None:
        """The most tokens of a prompt that every row holds; None: any number."""
        return None if self.length is None else self.length - max(map(len, self.prefixes)) - 1

    def __call__(self, ids: Sequence[int]) -> Int32[np.ndarray, "t l"]:
        """The rows of a prompt's tokens, padded with 0.

        The longest prompt that fits is kept, and the end mark always.
        """
        length = self.length or max(map(len, self.prefixes)) + len(ids) + 1
        rows = np.zeros((len(self.prefixes), length), np.int32)
        for row, before in zip(rows, self.prefixes, strict=True):
            tokens = [*before, *ids][: length - 1]
            row[: len(tokens) + 1] = [*tokens, self._eos_id]
        return rows
