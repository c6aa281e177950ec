import io

import numpy as np
import pytest
import seqio
import tensorflow as tf
from PIL import Image

from richhf.data import records
from tasks.augmentation import Augmentation
from tasks.pictures import crop, decode_pictures, fit_pictures, recolour_pictures, resize
from tasks.sources import TRAINING

CROP = Augmentation(crop_probability=1.0, crop_share=(0.6, 1.0))


def fit(example, lengths, *, count=1, augmentation=None, training=True, seed=0):
    """`count` times the same example through the preprocessor."""
    dataset = tf.data.Dataset.from_tensors({**example, TRAINING: training}).repeat(count)
    with seqio.utils.map_seed_manager(seed):
        dataset = fit_pictures(augmentation)(dataset, lengths)
    return list(dataset.as_numpy_iterator())


def marked(height, width, row, column, reach):
    """A dark picture with one bright spot, whose centre is at shares (row, column) of the sides."""
    picture = np.zeros((height, width), np.uint8)
    rows, columns = (np.arange(n)[:, None] + 0.5 for n in (height, width))
    inside = (np.abs(rows / height - row) < reach) & (np.abs(columns.T / width - column) < reach)
    picture[inside] = 255
    return picture


def centre(picture):
    """Centre of brightness, as shares of the sides."""
    weights = picture.astype(float) / picture.sum()
    return [
        float((weights.sum(1 - axis) * (np.arange(n) + 0.5)).sum() / n)
        for axis, n in enumerate(picture.shape)
    ]


def test_a_marked_pixel_is_followed_through_a_crop_in_image_and_both_maps():
    side = 48
    picture = np.zeros((side, side), np.uint8)
    picture[20, 31] = 255
    example = {"image": picture[..., None].repeat(3, -1), "heatmaps": np.stack([picture, picture])}
    places = set()
    for result in fit(example, {"image": side}, count=40, augmentation=CROP):
        views = [result["image"][..., 0], *result["heatmaps"]]
        assert all(view.shape == (side, side) and view.dtype == np.uint8 for view in views)
        assert views[0].max() > 50
        np.testing.assert_array_equal(views[0], views[1])
        np.testing.assert_array_equal(views[0], views[2])
        places.add(np.unravel_index(views[0].argmax(), views[0].shape))
    assert len(places) > 20


@pytest.mark.parametrize("seed", range(2))
def test_crops_cut_the_same_part_of_pictures_of_different_sizes(seed):
    spot = (0.48, 0.52, 0.1)
    image = marked(96, 150, *spot)[..., None].repeat(3, -1)
    maps = np.stack([marked(64, 64, *spot)] * 2)
    example, lengths = {"image": image, "heatmaps": maps}, {"image": 80, "heatmaps": 40}
    places = []
    for result in fit(example, lengths, count=20, augmentation=CROP, seed=seed):
        assert result["image"].shape == (80, 80, 3)
        assert result["heatmaps"].shape == (2, 40, 40)
        views = [result["image"][..., 0], *result["heatmaps"]]
        places.append([centre(view) for view in views])
        # The share of the picture that the spot takes grows alike.
        sizes = [view.mean() for view in views]
        np.testing.assert_allclose(sizes[1:], sizes[0], rtol=0.2)
    np.testing.assert_allclose(np.array(places)[:, 1:], np.array(places)[:, :1].repeat(2, 1), atol=0.02)
    assert (np.std(np.array(places)[:, 0], axis=0) > 0.05).all()


def test_outside_of_training_pictures_are_only_resized():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    maps = np.random.default_rng(1).integers(0, 256, (2, 64, 64)).astype(np.uint8)
    example, lengths = {"image": image, "heatmaps": maps}, {"image": 20, "heatmaps": 32}
    (plain,) = fit(example, lengths)
    (still,) = fit(example, lengths, augmentation=CROP, training=False)
    for name in ("image", "heatmaps"):
        np.testing.assert_array_equal(plain[name], still[name])
    dataset = tf.data.Dataset.from_tensors({"image": image, TRAINING: False})
    (same,) = recolour_pictures(Augmentation())(dataset).as_numpy_iterator()
    np.testing.assert_array_equal(same["image"], image)
    training = dataset.map(lambda e: {**e, TRAINING: True})
    (other,) = recolour_pictures(Augmentation())(training).as_numpy_iterator()
    assert (other["image"] != image).any()


def test_halved_maps_are_the_averages_of_their_pixels():
    maps = np.random.default_rng(0).integers(0, 256, (2, 64, 64)).astype(np.uint8)
    halved = resize(tf.constant(maps[..., None]), 32).numpy()[..., 0]
    np.testing.assert_allclose(halved, maps.reshape(2, 32, 2, 32, 2).mean((2, 4)), atol=0.51)
    assert halved.dtype == np.uint8


def test_pictures_of_the_right_side_are_left_alone():
    maps = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 1)).astype(np.uint8)
    np.testing.assert_array_equal(resize(tf.constant(maps), 24), maps)


@pytest.mark.parametrize("shape", [(96, 130), (77, 64), (48, 49)])
def test_a_smaller_image_is_made_of_means_over_areas(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    rows, columns = (overlaps(length, 48) for length in shape)
    wanted = np.einsum("ah,bw,hwc->abc", rows, columns, image.astype(float))
    got = resize(tf.constant(image[None]), 48).numpy()[0]
    np.testing.assert_allclose(got, wanted, atol=0.51)


def overlaps(length, side):
    """For each pixel of the result, how much of it comes from each pixel of the source."""
    edges = np.linspace(0, length, side + 1)
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(shared, 0) * side / length


def test_a_larger_image_is_pillows_bilinear():
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    got = resize(tf.constant(image[None]), 48).numpy()[0].astype(int)
    assert np.abs(got - wanted).max() <= 1


def test_a_crop_is_never_empty():
    pictures = tf.zeros([1, 3, 3, 1], tf.uint8)
    assert crop(pictures, tf.constant([0.5, 0.5, 0.05, 0.05])).shape[1:3] == (1, 1)


def test_a_png_and_a_jpeg_are_both_decoded():
    image = np.full((10, 12, 3), (200, 30, 90), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=100)
    for encoded in (records.encode_png(image), buffer.getvalue()):
        (result,) = decode_pictures(tf.data.Dataset.from_tensors({"image": encoded}))
        np.testing.assert_allclose(result["image"], image, atol=3)
