import numpy as np
import pytest
import tensorflow as tf

from tasks.augmentation import Augmentation

OFF = {
    f"{name}_probability": 0.0
    for name in ("crop", "brightness", "contrast", "hue", "saturation", "greyscale", "jpeg")
}
LUMA = np.array([0.299, 0.587, 0.114])


def only(name: str, **settings) -> Augmentation:
    """One kind of change, always."""
    return Augmentation(**{**OFF, f"{name}_probability": 1.0, **settings})


@pytest.fixture(scope="module")
def image():
    # Away from black and white, so that nothing is clipped.
    return np.random.default_rng(0).integers(90, 160, (20, 24, 3)).astype(np.uint8)


def recolour(augmentation, image, seed=0):
    return augmentation.recolour(tf.constant(image), [3, seed]).numpy()


def test_windows_lie_inside_and_have_the_shares_asked_for():
    augmentation = Augmentation(crop_probability=0.5, crop_share=(0.8, 0.9))
    draw = tf.function(augmentation.window)
    windows = np.array([draw(tf.constant([7, seed])) for seed in range(200)])
    cropped = windows[windows[:, 2] < 1]
    assert 70 < len(cropped) < 130
    np.testing.assert_array_equal(windows[windows[:, 2] == 1], [[0, 0, 1, 1]] * (200 - len(cropped)))
    np.testing.assert_array_equal(cropped[:, 2], cropped[:, 3])
    assert 0.8 <= cropped[:, 2].min() < 0.82 < 0.88 < cropped[:, 2].max() <= 0.9
    assert cropped[:, :2].min() >= 0
    ends = cropped[:, :2] + cropped[:, 2:]
    assert 0.97 < ends.max() <= 1 + 1e-6
    assert len({*map(tuple, cropped)}) == len(cropped)


def test_nothing_is_changed_with_every_probability_zero(image):
    np.testing.assert_array_equal(recolour(Augmentation(**OFF), image), image)
    np.testing.assert_array_equal(Augmentation(**OFF).window([0, 1]), [0, 0, 1, 1])


def test_the_seed_decides(image):
    first, again, other = (recolour(Augmentation(), image, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.uint8


def test_brightness_adds_within_its_range(image):
    changes = [
        recolour(only("brightness", brightness=0.1), image, seed).astype(int) - image for seed in range(20)
    ]
    assert all(np.ptp(change) == 0 for change in changes)
    assert -25.5 <= min(map(np.min, changes)) < -10
    assert 10 < max(map(np.max, changes)) <= 25.5


def test_contrast_is_a_factor_on_the_distance_from_the_mean_colour(image):
    changed = recolour(only("contrast", contrast=(1.5, 1.5)), image)
    mean = image.mean((0, 1))
    np.testing.assert_allclose(changed, mean + 1.5 * (image - mean), atol=0.51)


def test_saturation_keeps_luma_and_scales_the_distance_from_grey(image):
    changed = recolour(only("saturation", saturation=(0.5, 0.5)), image)
    grey = (image @ LUMA)[..., None]
    np.testing.assert_allclose(changed, grey + 0.5 * (image - grey), atol=0.6)


def test_greyscale_is_luma_alone(image):
    changed = recolour(only("greyscale"), image)
    np.testing.assert_allclose(changed, (image @ LUMA)[..., None].repeat(3, -1), atol=0.6)


def test_hue_turns_colours_and_not_greys(image):
    augmentation = only("hue", hue=0.1)
    for seed in range(5):
        changed = recolour(augmentation, image, seed)
        assert np.abs(changed.astype(int) - image).max() > 0
        np.testing.assert_allclose(changed @ LUMA, image @ LUMA, atol=0.9)
        grey = image[..., :1].repeat(3, -1)
        np.testing.assert_allclose(recolour(augmentation, grey, seed), grey, atol=1)
    # A third of a turn and back again.
    red = np.full((2, 2, 3), (150, 100, 100), np.uint8)
    shift = [recolour(only("hue", hue=0.5), red, seed)[0, 0].argmax() for seed in range(30)]
    assert {*shift} == {0, 1, 2}


def test_compression_leaves_traces_that_depend_on_its_quality(image):
    errors = [
        np.abs(recolour(only("jpeg", jpeg_quality=(quality, quality)), image).astype(int) - image).mean()
        for quality in (100, 60, 10)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_values_are_clipped_and_not_wrapped():
    black_and_white = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    for seed in range(8):
        changed = recolour(only("contrast", contrast=(2.0, 3.0)), black_and_white, seed)
        np.testing.assert_array_equal(changed, black_and_white)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"crop_probability": 1.5}, r"crop_probability is 1\.5, expected a number in \[0, 1\]"),
        ({"crop_share": (0.9, 1.1)}, r"crop_share is \(0\.9, 1\.1\), expected two numbers in order"),
        ({"crop_share": 0.8}, r"crop_share is 0\.8, expected two numbers in order"),
        ({"crop_share": (0.8,)}, "crop_share"),
        ({"brightness": (0.1, 0.2)}, r"brightness is \(0\.1, 0\.2\), expected a number in"),
        ({"hue": "little"}, "hue is little, expected a number"),
        ({"contrast": (1.2, 0.8)}, "contrast"),
        ({"brightness": -0.1}, "brightness"),
        ({"hue": 0.6}, "hue"),
        ({"jpeg_quality": (0, 100)}, "jpeg_quality"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**setting)
