import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from richhf.feedback import HEATMAPS, MULTI_HEAD, OUTPUTS, SCORES
from richhf.models import HeatmapLoss, RichFeedbackModel, ScoreLoss, parameter_counts

KNOWN_AXES = {"embed", "heads", "mlp", "vocab", "joined_kv", "patch", "position", "conv_in", "conv_out", None}
KNOWN_AXES |= {"relpos_buckets"}


@pytest.fixture(scope="module")
def params(variables):
    return nn.unbox(variables)["params"]


@pytest.fixture(scope="module")
def step(model, fast_jit):
    return fast_jit(
        jax.value_and_grad(lambda params, batch: model.loss_fn(params, batch, None), has_aux=True)
    )


@pytest.fixture(scope="module")
def predicted(model, params, batch, fast_jit):
    return fast_jit(model.predict_batch_with_aux)(params, batch)


def finite(tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_every_parameter_has_a_name_for_each_axis(variables):
    boxed = jax.tree.leaves_with_path(variables["params"], is_leaf=lambda x: isinstance(x, nn.Partitioned))
    assert len(boxed) > 50
    for path, leaf in boxed:
        assert isinstance(leaf, nn.LogicallyPartitioned), jax.tree_util.keystr(path)
        assert len(leaf.names) == leaf.value.ndim, jax.tree_util.keystr(path)
        assert {*leaf.names} <= KNOWN_AXES, jax.tree_util.keystr(path)
        given = [name for name in leaf.names if name]
        # A name twice could not be sharded; a parameter without any could not either.
        assert len({*given}) == len(given), jax.tree_util.keystr(path)
        assert given or leaf.value.size == 1, jax.tree_util.keystr(path)


def test_parameter_counts_add_up_and_heads_are_seven_or_two(model, variables, params):
    counts = parameter_counts(variables)
    assert counts == parameter_counts({"params": params})
    assert sum(counts.values()) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert list(counts) == [
        "vit", "visual_token_projection", "t5", "heatmap_heads", "score_heads",
        "word_head", "image_word_head",
    ]  # fmt: skip
    heads = sum(name.startswith(("heatmap_head", "score_head")) for name in params)
    assert heads == (6 if model.config.variant == MULTI_HEAD else 2)


def test_metrics_name_every_output_and_the_total_is_their_weighted_sum(model, params, batch, fast_jit):
    weighted = dataclasses.replace(
        model,
        heatmap_loss=HeatmapLoss(weight=3.0),
        score_loss=ScoreLoss(weight=0.5),
        output_weights={"overall": 4.0},
    )
    total, metrics = fast_jit(lambda p, b: weighted.loss_fn(p, b, None))(params, batch)
    names = (*OUTPUTS, "words", "image_words")
    assert {*metrics} == {"loss", "keyword_token_accuracy", *(f"loss/{name}" for name in names)}
    factors = {name: 3.0 for name in HEATMAPS} | {name: 0.5 for name in SCORES} | {"image_words": 0.1}
    factors["overall"] = 2.0
    wanted = sum(factors.get(name, 1.0) * metrics[f"loss/{name}"] for name in names)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    np.testing.assert_array_equal(total, metrics["loss"])


def test_a_weight_of_an_unknown_output_is_refused(model):
    with pytest.raises(ValueError, match=r"'aesthetic'; expected one of .*'aesthetics'"):
        dataclasses.replace(model, output_weights={"aesthetic": 2.0})


def test_zero_weights_give_zero_loss_and_zero_gradient(step, params, batch):
    unlabelled = {name: np.zeros_like(v) if name.endswith("weights") else v for name, v in batch.items()}
    unlabelled["word_labels"] = np.full_like(batch["word_labels"], -1)
    unlabelled["shown_tokens"] = np.zeros_like(batch["shown_tokens"])
    (loss, metrics), gradient = step(params, unlabelled)
    assert loss == 0
    assert all(value == 0 for value in metrics.values())
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_weights_choose_the_examples_that_count(step, params, batch):
    (_, full), gradient = step(params, batch)
    assert finite(gradient)
    masked = {name: value.copy() for name, value in batch.items()}
    masked["score_weights"][0] = 0
    masked["heatmap_weights"][0] = 0
    masked["decoder_loss_weights"][0] = 0
    masked["word_labels"][0] = -1
    masked["shown_tokens"][0] = 0
    (_, without), _ = step(params, masked)
    garbage = {name: value.copy() for name, value in masked.items()}
    garbage["scores"][0] = 99.0
    garbage["heatmaps"][0] = 255 - garbage["heatmaps"][0]
    garbage["decoder_target_tokens"][0] = 3
    (_, garbled), _ = step(params, garbage)
    for name, value in without.items():
        np.testing.assert_allclose(value, garbled[name], rtol=1e-6, err_msg=name)
        if name != "keyword_token_accuracy":
            assert value != full[name], name


def test_every_parameter_is_reached_by_the_loss(step, params, batch):
    _, gradient = step(params, batch)
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(gradient)
        if not np.abs(leaf).max() > 0
    ]
    # A key's bias moves all logits of a query alike.
    assert [name for name in still if "['key']['bias']" not in name] == []


def test_a_few_steps_reduce_every_loss(step, params, batch):
    (_, before), gradient = step(params, batch)
    for _ in range(10):
        params = jax.tree.map(lambda p, g: p - 0.03 * g, params, gradient)
        (_, after), gradient = step(params, batch)
    assert after["loss"] < 0.95 * before["loss"]


@pytest.mark.parametrize(
    ("absent", "gone"),
    [
        (("heatmaps", "heatmap_weights"), HEATMAPS),
        (("scores", "score_weights"), SCORES),
        (("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"), ("keywords",)),
        (("word_labels",), ("words",)),
        (("shown_tokens",), ("image_words",)),
    ],
)
def test_absent_labels_skip_their_heads(model, params, batch, absent, gone):
    rest = {name: value for name, value in batch.items() if name not in absent}
    full = jax.jit(model.eval_fn).lower(params, batch)
    lowered = jax.jit(model.eval_fn).lower(params, rest)
    wanted = {f"loss/{name}" for name in (*OUTPUTS, "words", "image_words") if name not in gone}
    assert {name for name in lowered.out_info if name.startswith("loss/")} == wanted
    if not {"words", "image_words"} & {*gone}:
        assert lowered.cost_analysis()["flops"] < 0.97 * full.cost_analysis()["flops"]


def test_a_batch_without_labels_is_refused(model, params, batch):
    inputs = {name: batch[name] for name in ("image", "encoder_input_tokens")}
    with pytest.raises(ValueError, match=r"the batch has no labels: found .*'image'"):
        model.loss_fn(params, inputs, None)
    with pytest.raises(ValueError, match=r"input_shapes lacks \['image'\]"):
        model.get_initial_variables(jax.random.key(0), {"encoder_input_tokens": (1, 1, 4)})


def test_predictions_have_their_sizes_and_ranges(model, predicted, batch):
    predictions, aux = predicted
    side = model.config.vit.image_size
    assert model.config.map_size < side
    assert predictions["heatmaps"].shape == (3, 2, side, side)
    assert predictions["scores"].shape == (3, 4)
    assert predictions["keyword_tokens"].shape == (3, model.keyword_length)
    assert predictions["word_probabilities"].shape == batch["word_labels"].shape
    for name in ("heatmaps", "scores", "word_probabilities"):
        value = np.asarray(predictions[name])
        assert value.dtype == np.float32
        assert 0 < value.min() < value.max() < 1
    assert (aux["keyword_log_probabilities"] <= 0).all()


def test_greedy_decoding_equals_the_argmax_of_teacher_forcing(model, params, predicted, batch, fast_jit):
    predictions, aux = predicted
    tokens = np.asarray(predictions["keyword_tokens"])
    shifted = np.pad(tokens[:, :-1], ((0, 0), (1, 0)))
    output = fast_jit(lambda p, *a: model.module.apply({"params": p}, *a, outputs=("keywords",)))(
        params, batch["image"], batch["encoder_input_tokens"], shifted
    )
    ended = np.cumsum(shifted == model.eos_id, axis=1) > 0
    argmax = np.where(ended, 0, np.argmax(output.keyword_logits, axis=-1))
    np.testing.assert_array_equal(tokens, argmax)
    taught = batch | {
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": (~ended).astype(np.float32),
    }
    scores = fast_jit(model.score_batch)(params, taught)
    np.testing.assert_allclose(aux["keyword_log_probabilities"].sum(1), scores, rtol=1e-4)


def test_outputs_choose_what_is_predicted(model, params, batch, predicted, fast_jit):
    subset = fast_jit(lambda p, b: model.predict_batch(p, b, outputs=("overall", "plausibility")))(
        params, batch
    )
    assert list(subset) == ["scores"]
    wanted = np.asarray(predicted[0]["scores"])[:, np.array([0, 3])]
    np.testing.assert_allclose(subset["scores"], wanted, rtol=1e-4)


def test_bfloat16_steps_like_float32_with_float32_losses(model, params, batch, step, fast_jit):
    low = RichFeedbackModel(dataclasses.replace(model.config, dtype="bfloat16"))
    (_, metrics), gradient = fast_jit(jax.value_and_grad(lambda p, b: low.loss_fn(p, b, None), has_aux=True))(
        params, batch
    )
    (_, wanted), wanted_gradient = step(params, batch)
    for name, value in metrics.items():
        assert value.dtype == np.float32
        if name != "keyword_token_accuracy":
            np.testing.assert_allclose(value, wanted[name], rtol=0.05, err_msg=name)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}
    one, other = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (gradient, wanted_gradient)
    )
    assert one @ other > 0.995 * np.linalg.norm(one) * np.linalg.norm(other)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_bfloat16_multiplies_and_float32_judges(model, params, batch):
    """Of softmaxes, norms and losses every step is float32; products are bfloat16 but for the last logits."""
    low = RichFeedbackModel(dataclasses.replace(model.config, dtype="bfloat16"))
    jaxpr = jax.make_jaxpr(lambda p, b: low.loss_fn(p, b, None))(params, batch)
    operands: dict[str, list] = {}
    for equation in equations(jaxpr.jaxpr):
        for operand in equation.invars[:1]:
            operands.setdefault(equation.primitive.name, []).append(operand.aval.dtype.name)
    for name in ("exp", "log", "log1p", "rsqrt", "logistic", "reduce_max"):
        assert {*operands.get(name, ())} <= {"float32"}, name
    assert {"exp", "rsqrt", "logistic"} <= operands.keys()
    last = 2 + 4 + 3 if model.config.variant == MULTI_HEAD else 1 + 1 + 3
    products = operands["dot_general"] + operands["conv_general_dilated"]
    assert products.count("float32") == last
    assert products.count("bfloat16") > 2 * last
    output = jax.eval_shape(
        lambda p, b: low.module.apply(
            {"params": p}, b["image"], b["encoder_input_tokens"], b["decoder_input_tokens"]
        ),
        params, batch,
    )  # fmt: skip
    logits = output.replace(memory=None)
    assert {leaf.dtype for leaf in jax.tree.leaves(logits)} == {np.dtype(np.float32)}


def test_dropout_is_on_only_with_a_key(model, params, batch, step, fast_jit):
    config = dataclasses.replace(
        model.config,
        vit=dataclasses.replace(model.config.vit, dropout=0.3),
        t5=dataclasses.replace(model.config.t5, dropout=0.3),
    )
    noisy, scores = RichFeedbackModel(config), {k: v for k, v in batch.items() if "score" in k}
    given = scores | {name: batch[name] for name in ("image", "encoder_input_tokens")}
    loss = fast_jit(lambda p, b, key: noisy.loss_fn(p, b, key)[0])
    first, second = loss(params, given, jax.random.key(0)), loss(params, given, jax.random.key(1))
    assert first != second
    assert first == loss(params, given, jax.random.key(0))
    quiet = fast_jit(noisy.eval_fn)(params, given)["loss/overall"]
    np.testing.assert_allclose(quiet, step(params, batch)[0][1]["loss/overall"], rtol=1e-5)
