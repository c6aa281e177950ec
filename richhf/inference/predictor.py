"""Feedback on images in one call: `predictor(images, prompts)`."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32

from richhf.data.prepare.images import UnusableImage
from richhf.data.targets import KeywordTarget
from richhf.feedback import KEYWORDS, OUTPUTS, SCORES, Feedback, ImageLike
from richhf.inference.computation import Computation
from richhf.inference.confidence import confidences_of, word_choices
from richhf.inference.encoder import Encoder, Example, stack_examples
from richhf.inference.given import check_count, check_prompt, explained, image_content, listed, pair_up
from richhf.inference.manifest import weights_digest
from richhf.inference.pictures import quiet_decoding
from richhf.inference.predictions import KINDS, asked_outputs, read_prediction
from richhf.inference.reward import Score, score_pixels
from richhf.inference.vocabulary import Vocabulary
from richhf.models.model import RichFeedbackModel
from richhf.pretrained.native import NativeModel, Settings, describe_model

BATCH_SIZE = 8


class Predictor:
    """A model, ready to predict; `richhf.load` makes one.

    Images of any size and shape are fitted to the model's square by the rule of training
    (`richhf.inference.pictures`): the whole image, squashed. Maps come back at the image's own size. CPUs
    compute in float32, whatever the model does (`computation.quickest`).

    Attributes:
      model: the model.
      settings: its lengths, thresholds and provenance.
      params: its parameters, on the device.
      encoder: makes what the model takes.
    """

    def __init__(self, native: NativeModel):
        """A predictor on the default device; nothing is compiled yet."""
        self.model: RichFeedbackModel = native.model
        self.settings: Settings = native.settings
        self.params: Any = jax.device_put(dict(native.params))
        self.encoder = Encoder(
            Vocabulary(native.vocabulary),
            variant=self.model.config.variant,
            image_size=self.model.config.vit.image_size,
            prompt_length=self.settings.prompt_length,
            see_prompt=self.settings.see_prompt,
            prompt_form=self.settings.prompt_form,
            task_strings=self.settings.task_strings,
        )
        self._computation = Computation(self.model)

    def __repr__(self) -> str:
        """Names the model, its size, its image and its outputs, and says if it is a demonstration."""
        name = self.settings.provenance.get("name") or self.settings.provenance.get("run") or "unnamed"
        side = self.model.config.vit.image_size
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        parts = [
            f"{name!r}, RAHF {self.model.config.variant}, {count:,} parameters, images {side} x {side}",
            f"outputs {', '.join(OUTPUTS)}",
        ]
        if self.settings.demonstration:
            parts.append(f"a demonstration: {self.settings.demonstration}")
        return f"Predictor({'; '.join(parts)})"

    def __call__(
        self,
        images: Any,
        prompts: str | Sequence[str],
        *,
        outputs: str | Sequence[str] = tuple(KINDS),
        batch_size: int = BATCH_SIZE,
        beams: int = 1,
    ) -> list[Feedback]:
        """Predicts feedback.

        An image gets the same feedback alone, in any batch and in any order, to 1e-5 (matrix products of
        another size may be summed in another order).

        Args:
          images: one image, or several: paths, PIL images or uint8 arrays [h w 3] in a sequence, or an array
            [n h w 3].
          prompts: the text that each image was made from, line breaks and tabs taken as spaces. One prompt
            alone, or one image alone, goes with all of the other side.
          outputs: what is wanted: kinds (`scores`, `heatmaps`, `keywords`), names of single ones
            (`plausibility`), or both; what is not wanted is not computed.
          batch_size: images on the device at once. Smaller batches are filled up to the next power of two, so
            that few shapes are compiled, each once.
          beams: sequences that the decoding of keywords looks at beside each other; 1: greedy.

        Returns:
          A list, also for one image.

        Raises:
          ValueError: for anything that is no image or prompt, numbers that differ, unknown outputs. It comes
            before anything is computed, but for files that are damaged: they are read as they are reached.
        """
        return list(self.stream(images, prompts, outputs=outputs, batch_size=batch_size, beams=beams))

    def stream(
        self,
        images: Any,
        prompts: str | Sequence[str],
        *,
        outputs: str | Sequence[str] = tuple(KINDS),
        batch_size: int = BATCH_SIZE,
        beams: int = 1,
    ) -> Iterator[Feedback]:
        """As a call, but gives the feedback on each image as soon as its batch is done."""
        names = asked_outputs(outputs)
        batch_size, beams = check_count("batch_size", batch_size), check_count("beams", beams)
        return self._stream(pair_up(images, prompts), names, batch_size, beams)

    def predict_examples(
        self,
        examples: Sequence[Example],
        outputs: str | Sequence[str] = tuple(KINDS),
        *,
        batch_size: int | None = None,
        beams: int = 1,
    ) -> list[Feedback]:
        """Predicts one batch of what the encoder has made.

        Args:
          examples: any number; none gives none.
          outputs: as of a call, like `beams`.
          batch_size: the most examples that a batch will have; it is filled up to no more.
          beams: see a call.
        """
        names, beams = asked_outputs(outputs), check_count("beams", beams)
        if not examples:
            return []
        if batch_size is not None and check_count("batch_size", batch_size) < len(examples):
            raise ValueError(f"{len(examples)} examples are more than a batch of {batch_size}.")
        features = stack_examples(examples, _bucket(len(examples), batch_size))
        prediction, memory = self._computation.predict(self.params, features, outputs=names, beams=beams)
        arrays = {name: np.asarray(values) for name, values in prediction.items()}
        vocabulary, settings = self.encoder.vocabulary, self.settings
        found = [
            read_prediction(arrays, row, one, vocabulary, names, settings.thresholds, settings.rules)
            for row, one in enumerate(examples)
        ]
        if KEYWORDS not in names:
            return found
        return self._with_confidences(found, examples, memory, len(features["image"]))

    def encode_prompts(self, prompts: str | Sequence[str]) -> Int32[np.ndarray, "b t l"]:
        """Prompts as `score_fn` takes them; one text alone is a batch of one."""
        texts = [prompts] if isinstance(prompts, str) else listed("prompts", prompts, "a text")
        if not texts:
            raise ValueError("there are no prompts; expected one text, or one for each image.")
        for index, text in enumerate(texts):
            check_prompt(text, f"prompt {index}")
        return np.stack([self.encoder.encode_prompt(text) for text in texts])

    @property
    def identity(self) -> dict[str, Any]:
        """What says which model this is, as JSON values by name: all of it that changes what is predicted."""
        description = describe_model(self.model, self.settings)
        for name in ("provenance", "calibration", "demonstration"):
            del description[name]
        checksums = {"weights": weights_digest(self.params), "vocabulary": self.encoder.vocabulary.digest}
        return description | {"sha256": checksums}

    @property
    def score_fn(self) -> Score:
        """The scores as a pure function of pixels, for `jax.jit`, `jax.grad` and `jax.vmap`: a reward.

        `score_fn(pixels, tokens, params=...)` takes floats [b h w 3] in [0, 1], of any size, and tokens
        [b t l] from `encode_prompts`, and gives a dict of float [b] in [0, 1] by name, higher is better.
        Values outside of [0, 1] and NaN are a ValueError, also in `jax.grad` and `jax.vmap`; inside `jax.jit`
        values are not known, and nothing is checked: clip there what may leave the range.
        Inside, images are fitted to the model's square by the same rule as in a call, but not rounded to
        bytes: for images of the model's size the scores are those of a call, for others they differ by what
        half a grey level does. `params` are the predictor's unless given: a function of one's
        own that is compiled with a large model takes `predictor.params` as an argument and hands them on, for
        what it closes over becomes a constant in the program.
        """
        return functools.partial(score_pixels, self._computation.model, params=self.params, names=SCORES)

    def _stream(
        self, pairs: Sequence[tuple[ImageLike, str]], names: tuple[str, ...], batch_size: int, beams: int
    ) -> Iterator[Feedback]:
        for start in range(0, len(pairs), batch_size):
            batch = pairs[start : start + batch_size]
            with quiet_decoding():
                examples = [self._encode(*pair, start + row) for row, pair in enumerate(batch)]
            predictions = self.predict_examples(examples, names, batch_size=batch_size, beams=beams)
            for (image, _), feedback in zip(batch, predictions, strict=True):
                yield feedback.replace(image=image)

    def _encode(self, image: ImageLike, prompt: str, index: int) -> Example:
        try:
            return self.encoder(image_content(image), prompt)
        except UnusableImage as error:
            raise explained(image, index, error) from error

    def _with_confidences(
        self, found: Sequence[Feedback], examples: Sequence[Example], memory: Any, rows: int
    ) -> list[Feedback]:
        vocabulary, length = self.encoder.vocabulary, self.model.keyword_length
        choices = [
            word_choices(
                KeywordTarget(example.written, vocabulary),
                one.misaligned,
                length=length,
                words_read=example.words_read,
            )
            for one, example in zip(found, examples, strict=True)
        ]
        filled = [*choices, *[choices[-1]] * (rows - len(found))]
        inputs, *places = (np.stack(column) for column in zip(*filled, strict=True))
        values = np.asarray(self._computation.confidences(self.params, memory, inputs, tuple(places)))
        return [
            one.replace(word_confidences=confidences_of(len(one.words), choice.places, row))
            for one, choice, row in zip(found, choices, values, strict=False)
        ]


def _bucket(count: int, most: int | None) -> int:
    """The size that a batch is filled up to: the next power of two, or the most that a batch may have."""
    power = 1 << (count - 1).bit_length()
    return power if most is None else min(power, most)
