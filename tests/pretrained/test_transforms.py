import numpy as np
import pytest

from richhf.pretrained import transforms


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("transform", "theirs", "ours"),
    [
        (transforms.KEEP, (3, 2), (3, 2)),
        (transforms.TRANSPOSE, (3, 2), (2, 3)),
        (transforms.CONV, (5, 4, 3, 2), (3, 2, 4, 5)),
        (transforms.UP_CONV, (5, 4, 3, 3), (3, 3, 5, 4)),
        (transforms.CHANNEL_SCALE, (5, 1, 1), (5,)),
        (transforms.FIRST_TOKEN, (1, 1, 6), (6,)),
        (transforms.PATCHES, (7, 3, 4, 4), (48, 7)),
        (transforms.channels_first(4), (6, 4 * 9), (9 * 4, 6)),
        (transforms.positions(True), (1, 10, 6), (10, 6)),
    ],
    ids=lambda value: value.name if isinstance(value, transforms.Transform) else "",
)
def test_there_and_back(transform, theirs, ours):
    array = numbers(*theirs)
    inside = transform.inward(array, ours)
    assert inside.shape == ours
    np.testing.assert_array_equal(transform.outward(inside), array)


def test_a_transposed_convolution_is_turned():
    array = numbers(2, 4, 3, 3)
    assert transforms.UP_CONV.inward(array, (3, 3, 2, 4))[0, 2, 1, 3] == array[1, 3, 2, 0]


def test_patches_run_by_row_column_channel():
    array = numbers(5, 3, 4, 4)
    assert transforms.PATCHES.inward(array, (48, 5))[(2 * 4 + 1) * 3 + 2, 4] == array[4, 2, 2, 1]


def test_flattened_maps_have_their_channels_last():
    array = numbers(5, 4 * 9)
    inside = transforms.channels_first(4).inward(array, (36, 5))
    assert inside[7 * 4 + 3, 2] == array[2, 3 * 9 + 7]
    with pytest.raises(ValueError, match="it has 36 inputs, the model 40"):
        transforms.channels_first(4).inward(array, (40, 5))


def test_heads_are_counted():
    inside = transforms.joined_heads(3, 1).inward(numbers(6, 3, 2), (6, 6))
    assert inside.shape == (6, 6)
    with pytest.raises(ValueError, match="it has 2 heads, the model 3"):
        transforms.joined_heads(3, 1).inward(numbers(6, 2, 3), (6, 6))


@pytest.mark.parametrize(("rows", "class_token"), [(10, True), (9, True), (10, False), (9, False)])
def test_positions_with_and_without_a_class_token(rows, class_token):
    array = numbers(1, rows, 4)
    found = transforms.positions(class_token).inward(array, (9 + class_token, 4))
    np.testing.assert_array_equal(found[-9:], array[0, -9:])
    if class_token:
        np.testing.assert_array_equal(found[0], array[0, 0] if rows == 10 else np.zeros(4))


def test_positions_are_resampled_around_the_class_token():
    array = np.ones((1, 10, 4), np.float32) * 2
    array[:, 0] = 7
    found = transforms.positions(True).inward(array, (26, 4))
    np.testing.assert_array_equal(found[0], 7)
    np.testing.assert_allclose(found[1:], 2, rtol=1e-6)
    with pytest.raises(ValueError, match="8 positions fill no square grid"):
        transforms.positions(True).inward(numbers(1, 8, 4), (26, 4))
