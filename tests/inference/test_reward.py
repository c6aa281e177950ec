import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.feedback import SCORES
from richhf.inference.pictures import fit_image
from richhf.inference.predictor import Predictor
from richhf.inference.reward import fit_pixels, score_pixels
from richhf.models import attention
from richhf.models.choices import ANY

PROMPTS = ["a red cat", "a blue cat on a mat", "mat"]


def bytes_and_floats(size, count=3):
    images = np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype(np.uint8)
    return images, (images / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (20, 31), (5, 40), (40, 8)])
def test_pixels_are_fitted_as_images_are_but_not_rounded(size):
    images, floats = bytes_and_floats(size)
    expected = np.stack([fit_image(image, 8) for image in images])
    np.testing.assert_allclose(255 * fit_pixels(jnp.asarray(floats), 8), expected, atol=0.501)


def test_scores_are_those_of_a_call(predictor):
    images, floats = bytes_and_floats((8, 8))
    scores = jax.jit(predictor.score_fn)(floats, predictor.encode_prompts(PROMPTS))
    assert tuple(sorted(scores)) == tuple(sorted(SCORES))
    for index, feedback in enumerate(predictor(images, PROMPTS, outputs="scores")):
        for name, value in feedback.scores.items():
            assert float(scores[name][index]) == pytest.approx(value, abs=1e-5)


def test_a_model_of_16_bits_scores_as_in_a_call(native):
    """Which computes in float32 on CPUs."""
    config = dataclasses.replace(native.model.config, dtype="bfloat16")
    model = dataclasses.replace(native.model, config=config)
    predictor = Predictor(dataclasses.replace(native, model=model))
    images, floats = bytes_and_floats((8, 8))
    scores = jax.jit(predictor.score_fn)(floats, predictor.encode_prompts(PROMPTS))
    for index, feedback in enumerate(predictor(images, PROMPTS, outputs="scores")):
        assert float(scores["overall"][index]) == pytest.approx(feedback.scores["overall"], abs=1e-5)


def test_it_can_be_mapped(native, monkeypatch):
    """Gradients of a function of one image, for several at once; attention in groups of heads."""
    monkeypatch.setattr(attention, "MOST_WEIGHTS", 4)
    predictor = Predictor(native)
    _, floats = bytes_and_floats((12, 20))
    tokens = predictor.encode_prompts(PROMPTS)

    def overall(pixels, tokens):
        return predictor.score_fn(pixels[None], tokens[None])["overall"][0]

    found = jax.jit(jax.vmap(jax.grad(overall)))(floats, tokens)
    together = jax.jit(jax.grad(lambda pixels: predictor.score_fn(pixels, tokens)["overall"].sum()))(floats)
    assert float(jnp.abs(together).max()) > 1e-3
    np.testing.assert_allclose(found, together, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 20)])
def test_the_gradient_is_that_of_finite_differences(predictor, size):
    _, floats = bytes_and_floats(size)
    pixels, tokens = jnp.asarray(0.25 + floats / 2), predictor.encode_prompts(PROMPTS)

    @jax.jit
    def reward(pixels):
        scores = predictor.score_fn(pixels, tokens)
        return scores["aesthetics"] + scores["alignment"] * 0.5

    gradient = jax.jit(jax.grad(lambda pixels: reward(pixels).sum()))(pixels)
    assert gradient.shape == pixels.shape
    rng, step = np.random.default_rng(1), 1e-3
    for _ in range(4):
        way = rng.normal(size=pixels.shape).astype(np.float32)
        way /= np.linalg.norm(way)
        way = np.asarray(way + np.sign(gradient) * 0.1, np.float32)
        change = (reward(pixels + step * way) - reward(pixels - step * way)).sum() / (2 * step)
        assert float(change) == pytest.approx(float((gradient * way).sum()), rel=0.03, abs=1e-4)


def test_the_gradient_does_not_depend_on_how_it_is_computed(native, monkeypatch):
    """Attention in groups of heads, as of a large model on CPUs, and all at once."""
    monkeypatch.setattr(attention, "MOST_WEIGHTS", 4)
    predictor = Predictor(native)
    assert predictor.model.config.optimize_for == ANY
    tokens = predictor.encode_prompts(PROMPTS)
    _, floats = bytes_and_floats((8, 8))

    def plain(pixels):
        return score_pixels(predictor.model, pixels, tokens, params=predictor.params, names=SCORES)

    found, expected = (
        jax.jit(jax.grad(lambda pixels, score=score: score(pixels)["overall"].sum()))(floats)
        for score in (lambda pixels: predictor.score_fn(pixels, tokens), plain)
    )
    assert float(jnp.abs(expected).max()) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_image_has_its_own_gradient(predictor):
    _, floats = bytes_and_floats((8, 8))
    tokens = predictor.encode_prompts(PROMPTS)
    overall = jax.jit(jax.grad(lambda pixels: predictor.score_fn(pixels, tokens)["overall"][1]))
    gradient = overall(jnp.asarray(floats))
    assert float(jnp.abs(gradient[1]).max()) > 0
    assert float(jnp.abs(gradient[jnp.array([0, 2])]).max()) == 0


def test_other_parameters_may_be_given(predictor):
    _, floats = bytes_and_floats((8, 8))
    tokens = predictor.encode_prompts(PROMPTS)
    zeros = jax.tree.map(jnp.zeros_like, predictor.params)
    scores = jax.jit(predictor.score_fn)(floats, tokens, params=zeros)
    np.testing.assert_allclose(scores["overall"], 0.5)


@pytest.mark.parametrize(
    ("pixels", "tokens", "message"),
    [
        ((8, 8, 3), (1, 1, 24), r"float32 \[8, 8, 3\]; expected .* \[b h w 3\]. One image is pixels\[None\]"),
        ((2, 3, 8, 8), (2, 1, 24), r"Move the channels last: pixels\.transpose\(0, 2, 3, 1\)"),
        ((2, 0, 8, 3), (2, 1, 24), r"\[2, 0, 8, 3\]; expected floats"),
        ((2, 8, 8, 3), (2, 24), r"tokens are int32 \[2, 24\]; expected integers \[b 1 l\]"),
        ((2, 8, 8, 3), (2, 7, 24), r"expected integers \[b 1 l\], as encode_prompts"),
        ((3, 8, 8, 3), (1, 1, 24), r"\[1, 1, 24\] for 3 images.*encode_prompts\(\[prompt\] \* 3\)"),
    ],
)
def test_what_does_not_fit_is_explained_while_traced(predictor, pixels, tokens, message):
    pixels, tokens = np.zeros(pixels, np.float32), np.zeros(tokens, np.int32)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda pixels: predictor.score_fn(pixels, tokens))(pixels)


def test_bytes_and_tokens_that_are_no_integers_are_refused(predictor):
    images, floats = bytes_and_floats((8, 8))
    tokens = predictor.encode_prompts(PROMPTS)
    with pytest.raises(ValueError, match=r"uint8 \[3, 8, 8, 3\]; expected .* Divide bytes by 255 first"):
        predictor.score_fn(images, tokens)
    with pytest.raises(ValueError, match=r"tokens are float32 .* expected integers"):
        predictor.score_fn(floats, tokens.astype(np.float32))
    for much in (np.full((3, 8, 8, 3), 255, np.float32), jnp.full((3, 8, 8, 3), 255.0)):
        with pytest.raises(ValueError, match=r"pixels go from 255 to 255; expected floats in \[0, 1\]"):
            predictor.score_fn(much, tokens)
        with pytest.raises(ValueError, match="pixels go from 255 to 255"):
            jax.jit(lambda tokens, much=much: predictor.score_fn(much, tokens))(tokens)


def test_what_is_no_array_is_refused(predictor):
    _, floats = bytes_and_floats((8, 8))
    tokens = predictor.encode_prompts(PROMPTS)
    with pytest.raises(ValueError, match="pixels are a NoneType; expected floats"):
        predictor.score_fn(None, tokens)
    for texts in (PROMPTS, "a red cat", np.array(PROMPTS)):
        with pytest.raises(ValueError, match=r"tokens are a .*; expected integers .* encode_prompts"):
            predictor.score_fn(floats, texts)
    with pytest.raises(ValueError, match="params hold nothing"):
        predictor.score_fn(floats, tokens, params={})


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (
            -1.0,
            1.0,
            r"pixels go from -1 to 1; expected floats in \[0, 1\]\. Of \[-1, 1\] that",
        ),
        (-0.01, 1.0, r"from -0\.01 to 1; .* jnp\.clip\(pixels, 0, 1\)"),
        (0.0, 1.01, r"from 0 to 1\.01; .*Clip them"),
        (-2.1, 2.6, r"from -2\.1 to 2\.6; .*Scale them to \[0, 1\]"),
        (0.0, np.nan, "pixels have 1 values that are NaN or infinite"),
        (0.0, np.inf, "pixels have 1 values that are NaN or infinite"),
        (-np.inf, 1.0, "pixels have 1 values that are NaN or infinite"),
    ],
)
def test_values_out_of_range_are_refused_where_they_are_known(predictor, low, high, message):
    tokens = predictor.encode_prompts(PROMPTS[:1])
    floats = np.full((1, 8, 8, 3), 0.5, np.float32)
    floats[0, 0, 0, :2] = low, high

    def overall(pixels):
        return predictor.score_fn(pixels, tokens)["overall"].sum()

    calls = [
        lambda x: overall(x),
        lambda x: overall(jnp.asarray(x, jnp.bfloat16)),
        jax.grad(overall),
        jax.value_and_grad(overall),
        lambda x: jax.vmap(lambda one: overall(one[None]))(x),
        lambda x: jax.vmap(jax.grad(lambda one: overall(one[None])))(x),
        lambda x: jax.grad(lambda x: jax.vmap(lambda one: overall(one[None]))(x).sum())(x),
        lambda x: jax.jvp(overall, (x,), (jnp.ones_like(x),)),
    ]
    for call in calls if np.isfinite([low, high]).all() else calls[:3]:
        with pytest.raises(ValueError, match=message if call is not calls[1] else "pixels "):
            call(jnp.asarray(floats))


def test_rounding_beyond_the_range_is_no_error(predictor):
    tokens = predictor.encode_prompts(PROMPTS[:1])
    floats = np.full((1, 8, 8, 3), 0.5, np.float32)
    floats[0, 0, 0, :2] = -1e-6, 1 + 1e-6
    assert 0 <= float(predictor.score_fn(floats, tokens)["overall"][0]) <= 1


def test_values_are_not_known_while_a_program_is_traced(predictor):
    tokens = predictor.encode_prompts(PROMPTS[:1])
    pixels = jnp.full((1, 8, 8, 3), -1.0)
    scores = jax.jit(jax.vmap(lambda one: predictor.score_fn(one[None], tokens)["overall"]))(pixels)
    assert np.isfinite(scores).all()
