"""Pictures changed by chance, in training only: parts of them, other colours, traces of compression."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

# From RGB to luma and two colour differences (NTSC's YIQ): grey is where both are 0, hue is their angle.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_RGB = np.linalg.inv(_YIQ).astype(np.float32)
_FULL = (0.0, 0.0, 1.0, 1.0)

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be done to an image; a crop takes its maps along.

    The kinds of change, the crop and the probabilities 0.5 and 0.1 are the paper's, as recalled from its
    supplement. It calls the other changes small and gives no numbers that are known here: those are this
    project's. Labels stay as they are, as in the paper, although a score or a word may speak of what a crop
    cuts off.

    Attributes:
      crop_probability: how often only a part of the image is used.
      crop_share: least and greatest share of either side that a crop keeps; the same for both sides.
      brightness_probability: how often brightness changes.
      brightness: greatest change; 1 is from black to white.
      contrast_probability: how often contrast changes.
      contrast: least and greatest factor on the distance from the mean colour.
      hue_probability: how often hue changes.
      hue: greatest turn, in turns of the colour circle.
      saturation_probability: how often saturation changes.
      saturation: least and greatest factor on the distance from grey.
      greyscale_probability: how often all colour is taken away.
      jpeg_probability: how often the image is compressed.
      jpeg_quality: least and greatest quality, of 100.

    Raises:
      ValueError: a probability or range that means nothing.
    """

    crop_probability: float = 0.5
    crop_share: Range = (0.8, 1.0)
    brightness_probability: float = 1.0
    brightness: float = 0.05
    contrast_probability: float = 1.0
    contrast: Range = (0.8, 1.2)
    hue_probability: float = 1.0
    hue: float = 0.025
    saturation_probability: float = 1.0
    saturation: Range = (0.8, 1.2)
    greyscale_probability: float = 0.1
    jpeg_probability: float = 1.0
    jpeg_quality: tuple[int, int] = (70, 100)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"Augmentation.{field.name} is {value}, expected a number in [0, 1].")
        limits = {
            "crop_share": (0.05, 1.0),
            "brightness": (0.0, 1.0),
            "contrast": (0.0, math.inf),
            "hue": (0.0, 0.5),
            "saturation": (0.0, math.inf),
            "jpeg_quality": (1, 100),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            pair = isinstance(getattr(type(self), name), tuple)
            numbers = tuple(value) if pair and isinstance(value, tuple | list) else (value,)
            sound = len(numbers) == 1 + pair and all(isinstance(number, int | float) for number in numbers)
            if not sound or not low <= numbers[0] <= numbers[-1] <= high:
                wanted = "two numbers in order" if pair else "a number"
                raise ValueError(f"Augmentation.{name} is {value}, expected {wanted} in [{low:g}, {high:g}].")

    def window(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws the part of the image to use.

        Args:
          seed: int [2]; the same seed gives the same window.

        Returns:
          float32 [4]: top, left, height and width as shares of the image's sides.
        """
        chance, size, top, left = tf.unstack(tf.random.stateless_uniform([4], seed))
        share = _between(self.crop_share, size)
        rest = 1.0 - share
        window = tf.stack([top * rest, left * rest, share, share])
        return tf.where(chance < self.crop_probability, window, tf.constant(_FULL))

    def recolour(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Changes colours, then compresses.

        All changes of colour are linear, so they are done at once, as one product with a 3 x 3 matrix.

        Args:
          image: uint8 [h w 3].
          seed: int [2]; the same seed gives the same changes. Take another than for `window`.

        Returns:
          uint8 [h w 3].
        """
        chances, draws = tf.unstack(tf.random.stateless_uniform([2, 6], seed))

        def change(index: int, probability: float, limits: Range, neutral: float) -> tf.Tensor:
            return tf.where(chances[index] < probability, _between(limits, draws[index]), neutral)

        brightness = change(0, self.brightness_probability, (-self.brightness, self.brightness), 0.0)
        contrast = change(1, self.contrast_probability, self.contrast, 1.0)
        hue = change(2, self.hue_probability, (-self.hue, self.hue), 0.0)
        saturation = change(3, self.saturation_probability, self.saturation, 1.0)
        saturation = tf.where(chances[4] < self.greyscale_probability, 0.0, saturation)
        image = _linear(image, brightness, contrast, hue, saturation)
        if not self.jpeg_probability:
            return image
        low, high = self.jpeg_quality
        quality = tf.cast(tf.round(_between((low, high), draws[5])), tf.int32)
        compressed = tf.cond(
            chances[5] < self.jpeg_probability,
            lambda: tf.image.adjust_jpeg_quality(image, quality),
            lambda: image,
        )
        return tf.ensure_shape(compressed, image.shape)


def _between(limits: tuple[float, float], share: tf.Tensor) -> tf.Tensor:
    low, high = limits
    return low + (high - low) * share


def _linear(
    image: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor, hue: tf.Tensor, saturation: tf.Tensor
) -> tf.Tensor:
    """Contrast about the mean colour, then hue and saturation, then brightness; clipped once, at the end."""
    pixels = tf.cast(tf.reshape(image, [-1, 3]), tf.float32)
    angle = 2 * math.pi * hue
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turn = tf.stack([tf.stack(row) for row in ((1.0, 0.0, 0.0), (0.0, cos, -sin), (0.0, sin, cos))])
    colour = tf.constant(_RGB) @ turn @ tf.constant(_YIQ)
    mean = tf.reduce_mean(pixels, axis=0, keepdims=True)
    offset = (1.0 - contrast) * tf.matmul(mean, colour, transpose_b=True) + 255.0 * brightness
    changed = tf.matmul(pixels, contrast * colour, transpose_b=True) + offset
    changed = tf.clip_by_value(tf.round(changed), 0.0, 255.0)
    return tf.reshape(tf.cast(changed, tf.uint8), tf.shape(image))
