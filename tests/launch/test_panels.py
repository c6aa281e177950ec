import numpy as np

from launch.panels import panel


def test_maps_are_red_where_they_are_high():
    image = np.full((2, 4, 4, 3), 100, np.uint8)
    true = np.zeros((2, 4, 4), np.float32)
    true[:, 0] = 1.0
    drawn = panel(image, true, 1.0 - true)
    assert (drawn.shape, drawn.dtype) == ((2, 4, 12, 3), np.uint8)
    np.testing.assert_array_equal(drawn[:, :, :4], image)
    assert drawn[0, 0, 4].tolist() == drawn[0, 3, 8].tolist() == [255, 40, 40]
    assert drawn[0, 3, 4].tolist() == drawn[0, 0, 8].tolist() == [50, 50, 50]
