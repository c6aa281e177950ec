"""From an image and a prompt to what the model takes, without TensorFlow: the features of the SeqIO tasks."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from richhf.data.prompts import PLAIN, PromptRows, as_one_line, check_prompt_form, in_form, row_prefixes
from richhf.data.targets import KeywordTarget
from richhf.inference.pictures import MAX_PIXELS, decode_image, fit_image, rgb_pixels
from richhf.inference.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with its prompt, as the model takes them.

    Attributes:
      image: uint8 [s s 3], the whole image as a square.
      tokens: int32 [t l], the prompt rows.
      prompt: the text, on one line (`as_one_line`).
      image_size: (height, width) of the image as it was given.
      read_as: the prompt in the form that the model reads, with the same words; None: `prompt` itself.
      words_read: how many of the prompt's words the prompt rows hold; None: all. 0: a model without prompts.
    """

    image: UInt8[np.ndarray, "s s 3"] = dataclasses.field(repr=False)
    tokens: Int32[np.ndarray, "t l"]
    prompt: str
    image_size: tuple[int, int]
    words_read: int | None = None
    read_as: str | None = None

    @property
    def written(self) -> str:
        """The prompt as the model reads it and writes it again."""
        return self.prompt if self.read_as is None else self.read_as


class Encoder:
    """Makes examples for one model.

    Attributes:
      vocabulary: of the prompts, and of the keywords that the model answers with.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        variant: str,
        image_size: int,
        prompt_length: int,
        see_prompt: bool = True,
        max_pixels: int = MAX_PIXELS,
        prompt_form: str = PLAIN,
        task_strings: Mapping[str, str] | None = None,
    ):
        """An encoder; thread-safe.

        Args:
          vocabulary: that of the training.
          variant: of `VARIANTS`.
          image_size: side of the model's square in pixels.
          prompt_length: tokens of a prompt row; longer prompts are cut.
          see_prompt: False for a model that was trained without prompts. It reads no word, so that its
            feedback covers none: the keywords that it decodes are a guess at the prompt, and flag nothing.
          max_pixels: larger images are not decoded.
          prompt_form: of `PROMPT_FORMS`, that of the training.
          task_strings: the text before the prompt for each output; None: this project's.

        Raises:
          ValueError: a prompt row is too short for the task strings.
        """
        self.vocabulary = vocabulary
        check_prompt_form(prompt_form, task_strings)
        prefixes = row_prefixes(variant, task_strings)
        self._rows = PromptRows(vocabulary.encode, vocabulary.eos_id, prefixes, prompt_length)
        self._form = prompt_form
        self._side, self._see_prompt, self._max_pixels = image_size, see_prompt, max_pixels

    def __call__(self, image: bytes | Image.Image | UInt8[np.ndarray, "h w 3"], prompt: str) -> Example:
        """Encodes one image and its prompt.

        Args:
          image: the content of an image file, a picture of any mode, or pixels; of any size and shape.
          prompt: the text it was made from.

        Raises:
          UnusableImage: it cannot be decoded, is too large, or is of a mode that says too little.
        """
        if isinstance(image, bytes):
            image = decode_image(image, max_pixels=self._max_pixels)
        elif isinstance(image, Image.Image):
            image = rgb_pixels(image)
        prompt, size = as_one_line(prompt), (image.shape[0], image.shape[1])
        written = in_form(prompt, self._form)
        return Example(
            image=fit_image(image, self._side),
            tokens=self.encode_prompt(prompt),
            prompt=prompt,
            image_size=size,
            words_read=self._words_read(written),
            read_as=None if written == prompt else written,
        )

    def encode_prompt(self, prompt: str) -> Int32[np.ndarray, "t l"]:
        """The prompt rows of a prompt."""
        written = in_form(as_one_line(prompt), self._form)
        return self._rows(self.vocabulary.encode(written) if self._see_prompt else [])

    def _words_read(self, written: str) -> int | None:
        room = self._rows.room
        if not self._see_prompt:
            return 0
        if room is None or len(self.vocabulary.encode(written)) <= room:
            return None
        return KeywordTarget(written, self.vocabulary).words_within(room)


def stack_examples(examples: Sequence[Example], batch_size: int) -> dict[str, np.ndarray]:
    """A batch of one static shape, as the model's `predict_batch` takes it.

    Args:
      examples: up to `batch_size`, at least one. The last one fills the batch up: unlike an empty one it
        lets decoding stop when the others do.
      batch_size: number of rows.

    Returns:
      `image` uint8 [b s s 3] and `encoder_input_tokens` int32 [b t l].
    """
    rows = [*examples, *[examples[-1]] * (batch_size - len(examples))]
    return {
        "image": np.stack([example.image for example in rows]),
        "encoder_input_tokens": np.stack([example.tokens for example in rows]),
    }
