import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models import ViT, ViTConfig, resample_position_embedding
from richhf.models.vit import to_patches

CONFIG = ViTConfig(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, mlp_width=8)


IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), jnp.float32)


def encode(config, params, image):
    return np.asarray(jax.jit(ViT(config).apply)(params, image))


def test_patches_run_row_by_row_and_hold_their_pixels():
    x = jnp.arange(4 * 4 * 2.0).reshape(1, 4, 4, 2)
    patches = to_patches(x, 2)
    np.testing.assert_array_equal(patches[0, 1], np.asarray(x)[0, :2, 2:].reshape(-1))
    np.testing.assert_array_equal(patches[0, 2], np.asarray(x)[0, 2:, :2].reshape(-1))


def test_patch_embedding_equals_a_strided_convolution():
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4, 3, 5)), jnp.float32)
    wanted = jax.lax.conv_general_dilated(
        IMAGE, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    patches = np.asarray(to_patches(IMAGE, 4)) @ np.asarray(kernel).reshape(-1, 5)
    np.testing.assert_allclose(patches, np.asarray(wanted).reshape(1, 4, 5), atol=1e-4)


def test_resampling_to_the_same_grid_changes_nothing():
    embedding = jnp.arange(60.0).reshape(12, 5)
    assert resample_position_embedding(embedding, (3, 4), (3, 4)) is embedding


def test_resampling_keeps_constants_and_linear_ramps():
    rows, columns = np.mgrid[:6, :6].astype(np.float32)
    ramp = jnp.asarray(np.stack([np.ones_like(rows), rows, columns], -1).reshape(36, 3))
    new = np.asarray(resample_position_embedding(ramp, (6, 6), (12, 9))).reshape(12, 9, 3)
    np.testing.assert_allclose(new[..., 0], 1.0, rtol=1e-6)
    # Pixel centres: row r of 12 lies at (r + .5) * 6 / 12 - .5; near the border the last pixel is repeated.
    # Cubic convolution with a slope other than -0.5 leaves ripples on a ramp, which cancel in the middle.
    rows, columns = (np.arange(12) + 0.5) / 2 - 0.5, (np.arange(9) + 0.5) * 6 / 9 - 0.5
    np.testing.assert_allclose(new[3:-3, 0, 1], rows[3:-3], atol=0.05)
    np.testing.assert_allclose(new[0, 4, 2], columns[4], rtol=1e-5)
    assert (np.diff(new[:, 0, 1]) > 0).all()
    np.testing.assert_allclose(new[:, 0, 1] + new[::-1, 0, 1], 5.0, rtol=1e-5)


def test_resampling_is_cubic_convolution():
    # An impulse at 2 of 6, seen from twice as many places: the kernel at their distances from it (a = -3/4).
    impulse = jnp.zeros((6, 1)).at[2].set(1.0)
    new = np.asarray(resample_position_embedding(impulse, (6, 1), (12, 1)))[:, 0]
    near = [0.8789062, 0.26171875]  # at 1/4 and 3/4: 1.25 x^3 - 2.25 x^2 + 1
    far = [-0.10546875, -0.03515625]  # at 5/4 and 7/4: -0.75 (x^3 - 5 x^2 + 8 x - 4)
    np.testing.assert_allclose(
        new, [0, far[1], far[0], near[1], near[0], near[0], near[1], far[0], far[1], 0, 0, 0], atol=1e-6
    )


def test_resampling_refuses_a_grid_that_does_not_fit():
    with pytest.raises(ValueError, match="13 position embeddings do not fill a grid of 3 x 4"):
        resample_position_embedding(jnp.zeros((13, 2)), (3, 4), (6, 8))


def test_class_token_takes_part_and_is_dropped(random_variables):
    config = dataclasses.replace(CONFIG, class_token=True)
    params = random_variables(ViT(config), IMAGE)
    assert params["params"]["position_embedding"].shape == (5, 8)
    tokens = encode(config, params, IMAGE)
    assert tokens.shape == (1, 4, 8)
    moved = {"params": params["params"] | {"class_token": jnp.arange(8.0)}}
    assert np.abs(encode(config, moved, IMAGE) - tokens).max() > 1e-3


def test_class_token_is_given_first_where_it_is_asked_for(random_variables):
    config = dataclasses.replace(CONFIG, class_token=True)
    params = random_variables(ViT(config), IMAGE)
    whole = np.asarray(jax.jit(functools.partial(ViT(config).apply, keep_class_token=True))(params, IMAGE))
    assert whole.shape == (1, 5, 8)
    np.testing.assert_allclose(whole[:, 1:], encode(config, params, IMAGE), atol=1e-6)


def test_stem_sees_across_patches_and_strides_keep_the_grid(random_variables):
    config = dataclasses.replace(CONFIG, depth=0, stem_widths=(4, 6), stem_strides=(1, 2))
    params = random_variables(ViT(config), IMAGE)
    assert params["params"]["patch_embedding"]["kernel"].shape == (2 * 2 * 6, 8)
    # A pixel just left of the second patch reaches it through the stem's 3x3 window, and not without a stem.
    changed = IMAGE.at[0, 0, 3].add(1.0)
    reached = encode(config, params, changed) - encode(config, params, IMAGE)
    assert reached.shape == (1, 4, 8)
    assert np.abs(reached[0, 1]).max() > 1e-5
    plain = dataclasses.replace(CONFIG, depth=0)
    params = random_variables(ViT(plain), IMAGE)
    reached = encode(plain, params, changed) - encode(plain, params, IMAGE)
    assert np.abs(reached[0, 0]).max() > 1e-5
    assert np.abs(reached[0, 1]).max() == 0


def test_wrong_sizes_are_explained():
    with pytest.raises(ValueError, match="16 x 8 px but the model takes 8 x 8"):
        ViT(CONFIG).init(jax.random.key(0), jnp.zeros((1, 16, 8, 3)))
    with pytest.raises(ValueError, match="image_size 10 is not a multiple of patch_size 4; use 8"):
        dataclasses.replace(CONFIG, image_size=10)
    with pytest.raises(ValueError, match="not a multiple of the stem's stride"):
        dataclasses.replace(CONFIG, stem_widths=(4,), stem_strides=(3,))
    with pytest.raises(ValueError, match="differ in length"):
        dataclasses.replace(CONFIG, stem_widths=(4, 4), stem_strides=(2,))


def test_a_residual_stem_adds_what_keeps_its_shape(random_variables):
    plain = dataclasses.replace(CONFIG, stem_widths=(4,))
    deeper = dataclasses.replace(CONFIG, stem_widths=(4, 4), stem_residual=True)
    params = random_variables(ViT(deeper), IMAGE)
    params["params"]["stem_1"] = jax.tree.map(jnp.zeros_like, params["params"]["stem_1"])
    without = {"params": {name: tree for name, tree in params["params"].items() if name != "stem_1"}}
    np.testing.assert_array_equal(encode(deeper, params, IMAGE), encode(plain, without, IMAGE))
    lost = dataclasses.replace(deeper, stem_residual=False)
    assert np.abs(encode(lost, params, IMAGE) - encode(deeper, params, IMAGE)).max() > 0.01
