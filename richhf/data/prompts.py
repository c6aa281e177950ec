"""How a prompt is put before the model: rows of tokens, each asking for one output or for all.

The input pipeline (`tasks.preprocessors`) and inference both take them from here. A model states its prompt
form and its task strings, for both must be those of its training. The first author's weights were trained and
run on words alone, with task strings of their own (github.com/youweiliang/RichHF, `get_dataset.py` and
`model.py`).
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from richhf import feedback
from richhf.data.words import split_words

PLAIN, WORDS = "plain", "words"
PROMPT_FORMS = (PLAIN, WORDS)
"""The prompt as it was given, or its words (`split_words`) joined by single spaces."""

_WHITE = re.compile(r"\s")
ROWS: dict[str, tuple[str | None, ...]] = {
    feedback.MULTI_HEAD: (None,),
    feedback.AUGMENTED_PROMPT: feedback.OUTPUTS,
}
"""The rows of `inputs`: the prompt alone, or one row an output with its task string before the prompt."""


def as_prefix(task_string: str) -> str:
    """A task string as it stands before a prompt."""
    return f"{task_string}: "


TASK_STRINGS = {name: as_prefix(text) for name, text in feedback.TASK_STRINGS.items()}
"""What stands before the prompt to ask for each output, as in `plausibility score: a red cat`."""
AUTHOR_TASK_STRINGS = {
    **{name: f"<output> HEATMAP: {name} </output> " for name in feedback.HEATMAPS},
    **{name: f"<output> SCORE: {name} </output> " for name in feedback.SCORES},
    feedback.KEYWORDS: "",
}
"""The same in the first author's weights, whose keywords get the prompt alone."""


def row_prefixes(variant: str, task_strings: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Returns what stands before the prompt in each row of `inputs`.

    Args:
        variant: of `VARIANTS`.
        task_strings: the text for each output; None: `TASK_STRINGS`.
    """
    texts = TASK_STRINGS if task_strings is None else task_strings
    return tuple("" if name is None else texts[name] for name in ROWS[variant])


def in_form(prompt: str, form: str) -> str:
    """Returns a prompt in one of `PROMPT_FORMS`; it has the same words, in the same order."""
    return " ".join(split_words(prompt)) if form == WORDS else prompt


def check_prompt_form(form: object, task_strings: object = None, *, source: str = "the model") -> None:
    """Raises ValueError unless a model's prompt form and task strings are such.

    Args:
        form: expected one of `PROMPT_FORMS`.
        task_strings: expected a text for each of `OUTPUTS`, or None.
        source: what they are from, for the message.
    """
    if form not in PROMPT_FORMS:
        raise ValueError(f"{source}: prompt_form is {form!r}; expected one of {', '.join(PROMPT_FORMS)}.")
    if task_strings is None:
        return
    if not isinstance(task_strings, Mapping) or not all(isinstance(t, str) for t in task_strings.values()):
        raise ValueError(f"{source}: task_strings is {task_strings!r:.60}; expected a text for each output.")
    if {*task_strings} != {*feedback.OUTPUTS}:
        raise ValueError(
            f"{source}: task_strings has texts for {', '.join(map(str, task_strings)) or 'nothing'}; "
            f"expected them for {', '.join(feedback.OUTPUTS)}."
        )


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
        prefixes: Sequence[str],
        length: int | None,
    ):
        """Rows for a vocabulary.

        Args:
          encode: text to token ids, without end mark.
          eos_id: the end mark.
          prefixes: one entry a row: what stands before the prompt (`row_prefixes`).
          length: tokens of a row.

        Raises:
          ValueError: a row has no room for one token of the prompt.
        """
        self.prefixes = [[int(i) for i in encode(text)] if text else [] for text in prefixes]
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
