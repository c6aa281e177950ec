"""From encoded image and maps to arrays of the sides that TASK_FEATURE_LENGTHS asks for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from richhf import feedback
from richhf.data import records
from richhf.data.features import MAP_LENGTH, map_side
from tasks.augmentation import Augmentation
from tasks.chance import FIT_SALT, RECOLOUR_SALT, map_by_chance
from tasks.sources import TRAINING


def picture_steps(*, exact_side: bool, augmentation: Augmentation | None = None) -> list[Any]:
    """The preprocessors that make arrays of an example's pictures.

    Args:
      exact_side: whether pictures of another side than asked for are an error instead of being resized.
      augmentation: what to do to them in training; None: nothing.
    """
    steps = [decode_pictures]
    if exact_side:
        steps.append(check_sides)
    if augmentation or not exact_side:
        steps.append(fit_pictures(augmentation))
    if augmentation:
        steps.append(recolour_pictures(augmentation))
    return steps


@seqio.map_over_dataset
def decode_pictures(example):
    """Decodes the image (PNG or JPEG) and, where there are any, both maps, turned as people see them.

    Returns:
      The example with `image` uint8 [h w 3] and `heatmaps` uint8 [2 h' w'] (255 is 1.0), in the order of
      `HEATMAPS`. Maps refer to the image as people see it.
    """
    features = records.HEATMAP_FEATURES
    kept = {name: value for name, value in example.items() if name not in features.values()}
    maps = [features[name] for name in feedback.HEATMAPS if features[name] in example]
    encoded = tf.stack([example[name] for name in ("image", *maps)])
    plain, orientations = tf.numpy_function(_plain_contents, [encoded], [tf.string, tf.int32], stateful=False)
    plain.set_shape([1 + len(maps)])
    orientations.set_shape([1 + len(maps)])
    # It reads PNG too. TensorFlow's default transform is up to four grey levels off what other readers see.
    image = tf.io.decode_jpeg(plain[0], channels=3, dct_method="INTEGER_ACCURATE")
    kept["image"] = turn(image, orientations[0])
    if maps:
        decoded = [tf.io.decode_png(plain[row], channels=1) for row in range(1, 1 + len(maps))]
        turned = [turn(heatmap, orientations[row]) for row, heatmap in enumerate(decoded, start=1)]
        kept["heatmaps"] = tf.squeeze(tf.stack(turned), -1)
    return kept


def turn(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a picture as people see it.

    Args:
      picture: [h w c], as it is stored.
      orientation: int [], 1 to 8 as EXIF numbers them.

    Returns:
      [h w c], or [w h c] from orientation 5 on.
    """

    def transposed() -> tf.Tensor:
        return tf.transpose(picture, [1, 0, 2])

    turned = tf.switch_case(
        orientation - 1,
        [
            lambda: picture,
            lambda: picture[:, ::-1],
            lambda: picture[::-1, ::-1],
            lambda: picture[::-1],
            transposed,
            lambda: transposed()[:, ::-1],
            lambda: transposed()[::-1, ::-1],
            lambda: transposed()[::-1],
        ],
    )
    turned.set_shape([None, None, picture.shape[-1]])
    return turned


def _plain_contents(encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What decoders get of encoded pictures, and their orientations."""
    contents = encoded.tolist()
    plain = np.array([feedback.plain_content(content) for content in contents], object)
    return plain, np.array([feedback.orientation_of(content) for content in contents], np.int32)


@seqio.map_over_dataset
def check_sides(example, sequence_length: Mapping[str, int] | None = None):
    """Checks that image and maps have the sides asked for.

    Args:
      example: has `image` and `heatmaps`.
      sequence_length: the sides in pixels, `image` and perhaps `heatmaps`; nothing is checked without them.
    """
    if sequence_length is None or "image" not in sequence_length:
        return example
    side, side_of_maps = sequence_length["image"], map_side(sequence_length)
    sizes = tf.stack([tf.shape(example["image"])[:2], tf.shape(example["heatmaps"])[1:]])
    expected = tf.constant([[side, side], [side_of_maps, side_of_maps]])
    check = tf.debugging.Assert(
        tf.reduce_all(tf.equal(sizes, expected)),
        [
            "Record", example["filename"], "has (height, width) of image and maps", sizes,
            "but expected is", expected, ": set TASK_FEATURE_LENGTHS['image'] to the side of the records, or "
            "make records of that side (`richhf synthesize --size`).",
        ],
        summarize=6,
    )  # fmt: skip
    shapes = {"image": [side, side, 3], "heatmaps": [len(feedback.HEATMAPS), side_of_maps, side_of_maps]}
    with tf.control_dependencies([check]):
        checked = {name: tf.ensure_shape(example[name], shape) for name, shape in shapes.items()}
    return {**example, **checked}


def fit_pictures(augmentation: Augmentation | None = None):
    """Makes the preprocessor that brings pictures of any size to the sides asked for.

    An image becomes a square whatever its shape was, and so do its maps, which cover the whole image: a point
    keeps its place as a share of either side. In training a crop may come before: of image and maps the same
    part, to the nearest pixel of each.

    Args:
      augmentation: has the crop; acts only on examples of a training stream (`tasks.sources`).

    Returns:
      A SeqIO preprocessor.
    """

    def preprocessor(dataset, sequence_length: Mapping[str, int]):
        sides = {"image": sequence_length["image"], MAP_LENGTH: map_side(sequence_length)}

        def fit(example, seed=None):
            stacks = {"image": example["image"][None]}
            if MAP_LENGTH in example:
                stacks[MAP_LENGTH] = example[MAP_LENGTH][..., None]
            if augmentation:
                whole = tf.constant([0.0, 0.0, 1.0, 1.0])
                window = tf.where(example[TRAINING], augmentation.window(seed), whole)
                stacks = {name: crop(pictures, window) for name, pictures in stacks.items()}
            stacks = {name: resize(pictures, sides[name]) for name, pictures in stacks.items()}
            axes = {"image": 0, MAP_LENGTH: -1}
            return {**example, **{name: tf.squeeze(stack, axes[name]) for name, stack in stacks.items()}}

        return (
            map_by_chance(fit, salt=FIT_SALT)(dataset)
            if augmentation
            else seqio.map_over_dataset(fit)(dataset)
        )

    return preprocessor


def recolour_pictures(augmentation: Augmentation):
    """Makes the preprocessor that changes colours of the images of a training stream, and of no other."""

    def recolour(example, seed):
        image = example["image"]
        changed = tf.cond(example[TRAINING], lambda: augmentation.recolour(image, seed), lambda: image)
        return {**example, "image": tf.ensure_shape(changed, image.shape)}

    return map_by_chance(recolour, salt=RECOLOUR_SALT)


def crop(pictures: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Cuts the same part out of all pictures.

    Args:
      pictures: [n h w c].
      window: float32 [4], top, left, height and width as shares of the sides.
    """
    sides = tf.cast(tf.shape(pictures)[1:3], tf.float32)
    begin = tf.cast(tf.round(window[:2] * sides), tf.int32)
    end = tf.cast(tf.round((window[:2] + window[2:]) * sides), tf.int32)
    end = tf.maximum(end, begin + 1)
    return pictures[:, begin[0] : end[0], begin[1] : end[1]]


def resize(pictures: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes to squares: averages of areas where both sides shrink, bilinear elsewhere, antialiased always.

    Args:
      pictures: uint8 [n h w c].
      side: in pixels.

    Returns:
      uint8 [n side side c]; pictures of that side already are given back as they are.
    """
    size = tf.shape(pictures)[1:3]

    def resized(**how) -> tf.Tensor:
        return tf.cast(tf.round(tf.image.resize(pictures, [side, side], **how)), tf.uint8)

    result = tf.case(
        [
            (tf.reduce_all(tf.equal(size, side)), lambda: pictures),
            (tf.reduce_all(size >= side), lambda: resized(method=tf.image.ResizeMethod.AREA)),
            # Where both sides grow there is nothing to smooth, and this is three times as fast.
            (tf.reduce_all(size <= side), lambda: resized(antialias=False)),
        ],
        default=lambda: resized(antialias=True),
    )
    result.set_shape([pictures.shape[0], side, side, pictures.shape[-1]])
    return result
