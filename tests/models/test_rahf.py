import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.feedback import AUGMENTED_PROMPT, HEATMAPS, OUTPUTS, SCORES
from richhf.models import RAHF, RAHFConfig
from richhf.models.rahf import scale_image

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def forward(model, variables, fast_jit):
    @functools.partial(fast_jit, static_argnames="outputs")
    def apply(image, tokens, decoder_tokens, outputs=OUTPUTS):
        return model.module.apply(variables, image, tokens, decoder_tokens, outputs=outputs)

    return apply


@pytest.fixture(scope="module")
def inputs(batch):
    return batch["image"], batch["encoder_input_tokens"], batch["decoder_input_tokens"]


@pytest.fixture(scope="module")
def full(forward, inputs):
    return forward(*inputs)


def flat(output) -> dict[str, np.ndarray]:
    values = {**output.heatmaps, **output.scores}
    values |= {"keywords": output.keyword_logits, "words": output.word_logits}
    return {name: np.asarray(value) for name, value in values.items() if value is not None}


def test_all_outputs_come_in_their_shapes(model, full):
    size, config = model.config.map_size, model.config
    assert {*full.heatmaps} == {*HEATMAPS}
    assert {*full.scores} == {*SCORES}
    assert all(value.shape == (3, size, size) for value in full.heatmaps.values())
    assert full.keyword_logits.shape == (3, 5, config.t5.vocab_size)
    assert all(np.isfinite(value).all() for value in flat(full).values())
    # Heads of a kind differ: by their weights (multi-head) or by their rows (augmented prompt).
    assert len({float(value[0]) for value in full.scores.values()}) == 4


def test_results_do_not_depend_on_the_rest_of_the_batch(forward, inputs, full):
    reordered = forward(*(value[np.array([2, 0, 0])] for value in inputs))
    for name, value in flat(reordered).items():
        np.testing.assert_allclose(value[:2], flat(full)[name][np.array([2, 0])], **TOLERANCE, err_msg=name)


def test_padding_changes_nothing(forward, inputs, full):
    image, tokens, decoder_tokens = inputs
    longer = np.pad(tokens, ((0, 0), (0, 0), (0, 3)))
    padded = flat(forward(image, longer, decoder_tokens))
    seen = tokens[:, -1] > 0
    for name, value in flat(full).items():
        if name == "words":
            np.testing.assert_allclose(padded[name][:, : seen.shape[1]][seen], value[seen], **TOLERANCE)
        else:
            np.testing.assert_allclose(padded[name], value, **TOLERANCE, err_msg=name)


@pytest.mark.parametrize(
    "outputs", [("misalignment", "overall", "alignment"), ("keywords", "implausibility")]
)
def test_a_subset_equals_the_same_outputs_of_all(forward, inputs, full, outputs):
    subset = flat(forward(*inputs, outputs=outputs))
    assert {*subset} - {"words"} == {*outputs}
    for name, value in subset.items():
        np.testing.assert_allclose(value, flat(full)[name], **TOLERANCE, err_msg=name)


def test_each_output_listens_to_its_own_row_only(model, forward, inputs, full):
    if model.config.variant != AUGMENTED_PROMPT:
        pytest.skip("one row")
    image, tokens, decoder_tokens = inputs
    for row in (1, 4, 6):
        changed_tokens = tokens.copy()
        changed_tokens[:, row, 0] = 39 - changed_tokens[:, row, 0] // 2
        changed = flat(forward(image, changed_tokens, decoder_tokens))
        for name, value in flat(full).items():
            own = OUTPUTS[row] == name or (name == "words" and row == 6)
            assert (np.abs(changed[name] - value).max() > 1e-5) == own, (row, name)


def test_bytes_are_scaled_to_minus_one_and_one():
    image = jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(scale_image(image).ravel(), [-1, 1])
    np.testing.assert_array_equal(
        scale_image(jnp.full((1, 1, 1, 3), 0.3)), np.full((1, 1, 1, 3), np.float32(0.3))
    )


def test_decoder_attends_to_text_alone_if_told_so(model, variables, inputs):
    module = RAHF(dataclasses.replace(model.config, decoder_attends_to="text"))
    image, tokens, _ = inputs
    output = jax.eval_shape(lambda *args: module.apply(variables, *args), image, tokens)
    assert output.memory.tokens.shape[1] == tokens.shape[2]
    output = jax.eval_shape(lambda *args: model.module.apply(variables, *args), image, tokens)
    assert output.memory.tokens.shape[1] == tokens.shape[2] + model.config.vit.grid**2
    assert output.keyword_logits is None


def test_class_token_reaches_the_heads_through_the_encoder_if_told_so(
    model, inputs, random_variables, fast_jit
):
    vit = dataclasses.replace(model.config.vit, class_token=True)
    told = dataclasses.replace(model.config, vit=vit, encode_class_token=True)
    image, tokens = (jnp.asarray(value) for value in inputs[:2])
    variables = random_variables(RAHF(told), image, tokens, tokens[:, 0])
    outputs = ("implausibility", "plausibility")

    def predict(config):
        run = functools.partial(RAHF(config).apply, outputs=outputs)
        return flat(fast_jit(run)(variables, image, tokens))

    with_token, without = predict(told), predict(dataclasses.replace(told, encode_class_token=False))
    for name, value in without.items():
        assert with_token[name].shape == value.shape
        assert np.abs(with_token[name] - value).max() > 1e-4, name
    with pytest.raises(ValueError, match=r"the ViT has no class token; set ViTConfig\.class_token"):
        dataclasses.replace(model.config, encode_class_token=True)


def test_wrong_rows_and_names_are_explained(model, variables, inputs):
    image, tokens = (jnp.asarray(value) for value in inputs[:2])
    with pytest.raises(ValueError, match=rf"has 2 rows an image; the variant {model.config.variant} takes"):
        model.module.apply(variables, image, jnp.repeat(tokens[:, :1], 2, axis=1))
    with pytest.raises(ValueError, match=r"'plausability'.*Did you mean 'plausibility'"):
        model.module.apply(variables, image, tokens, outputs=("plausability",))
    with pytest.raises(ValueError, match="no output was asked for"):
        model.module.apply(variables, image, tokens, outputs=())
    with pytest.raises(ValueError, match=r"'multihead'.*Did you mean 'multi_head'"):
        RAHFConfig(variant="multihead")


def test_image_words_are_the_mean_odds_of_the_patches_and_know_no_prompt(
    model, variables, forward, inputs, full
):
    image, tokens, decoder_tokens = inputs
    other = forward(image, np.where(tokens > 0, tokens % 5 + 2, 0), decoder_tokens)
    np.testing.assert_array_equal(full.image_word_logits, other.image_word_logits)
    seen = model.module.apply(variables, scale_image(jnp.asarray(image)), method=lambda net, x: net.vit(x))
    head = nn.meta.unbox(variables["params"]["image_word_head"])
    odds = np.exp(seen @ head["kernel"] + head["bias"].reshape(1, 1, -1))
    np.testing.assert_allclose(full.image_word_logits, np.log(odds.mean(axis=1)), **TOLERANCE)
