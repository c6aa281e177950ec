import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from richhf.models.beam_search import decode_with_beams
from richhf.models.decoding import decode_greedily
from richhf.models.model import RichFeedbackModel
from tests.models.conftest import make_batch, make_config

BATCH, VOCABULARY, LENGTH, EOS = 3, 4, 4, 1


def table_step(table):
    """Logits that depend on all tokens so far: the cache is the number that they make."""

    def step(tokens, position, cache):
        cache = jnp.where(position > 0, cache * VOCABULARY + tokens, cache)
        row = cache % table.shape[2]
        return table[jnp.arange(len(tokens)) * BATCH // len(tokens), position, row], cache

    return step


def all_sequences(length):
    others = [token for token in range(VOCABULARY) if token != EOS]
    for size in range(length + 1):
        for start in itertools.product(others, repeat=size):
            if size == length:
                yield start
            else:
                yield (*start, EOS)


def log_probabilities(table, row, tokens):
    cache, values = 0, []
    for position, token in enumerate(tokens):
        logits = table[row, position, cache % table.shape[2]]
        values.append(logits[token] - np.logaddexp.reduce(logits))
        cache = cache * VOCABULARY + token
    return values


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_enough_beams_find_the_best_of_all_sequences(alpha):
    table = np.random.default_rng(0).normal(0, 1.5, (BATCH, LENGTH, 61, VOCABULARY)).astype(np.float32)
    beams = (VOCABULARY - 1) ** LENGTH
    decode = jax.jit(
        lambda table: decode_with_beams(
            table_step(table),
            jnp.zeros((BATCH * beams,), jnp.int32),
            lambda cache, rows: cache[rows],
            batch=BATCH,
            beams=beams,
            length=LENGTH,
            eos_id=EOS,
            alpha=alpha,
        )
    )
    tokens, parts = jax.tree.map(np.asarray, decode(table))
    lengths = set()
    for row in range(BATCH):

        def value(sequence, row=row):
            return sum(log_probabilities(table, row, sequence)) / ((5 + len(sequence)) / 6) ** alpha

        best = max(all_sequences(LENGTH), key=value)
        lengths.add(len(best))
        assert tuple(tokens[row, : len(best)]) == best
        assert not tokens[row, len(best) :].any()
        np.testing.assert_allclose(parts[row, : len(best)], log_probabilities(table, row, best), atol=1e-5)


def test_one_beam_stays_greedy_and_stops_when_all_rows_are_done():
    """A table whose likeliest token is the end at the second step: later steps are never asked for."""
    table = np.zeros((BATCH, LENGTH, 61, VOCABULARY), np.float32)
    table[:, 0, :, 2] = table[:, 1, :, EOS] = 20.0
    asked = []

    def step(tokens, position, cache):
        jax.debug.callback(lambda position: asked.append(int(position)), position)
        return table_step(jnp.asarray(table))(tokens, position, cache)

    sizes = {"batch": BATCH, "length": LENGTH, "eos_id": EOS}
    greedy = decode_greedily(step, jnp.zeros((BATCH,), jnp.int32), **sizes)
    jax.effects_barrier()
    asked.clear()
    cache = jnp.zeros((BATCH * 2,), jnp.int32)
    found = decode_with_beams(step, cache, lambda cache, rows: cache[rows], beams=2, **sizes)
    jax.effects_barrier()
    assert max(asked) == 1
    np.testing.assert_array_equal(found[0], greedy[0])
    np.testing.assert_allclose(found[1], greedy[1], atol=1e-6)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_the_network_gives_the_probabilities_that_teacher_forcing_gives(scan_layers, fill, fast_jit):
    """The cache follows its beams: what is found has the probability that the network gives it at once."""
    config = make_config("multi_head", scan_layers=scan_layers)
    config = dataclasses.replace(config, t5=dataclasses.replace(config.t5, tied_logits=False))
    model = RichFeedbackModel(config, keyword_length=5)
    batch = {name: make_batch(config)[name] for name in ("image", "encoder_input_tokens")}
    shapes = {name: value.shape for name, value in batch.items()}
    boxed = jax.eval_shape(lambda: model.get_initial_variables(jax.random.key(0), shapes))
    params = nn.unbox(fill(boxed)["params"])
    # Sure of its tokens, of which neither padding nor the end is the likeliest.
    table = params["t5"]["logits_dense"]["kernel"]
    params["t5"]["logits_dense"]["kernel"] = 3 * table.at[:, :2].set(0.0)

    @fast_jit
    def decode(params):
        found, aux, memory = model.predict_with_memory(params, batch, outputs=("keywords",), beams=3)
        tokens = found["keyword_tokens"]
        inputs = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        logits = jax.nn.log_softmax(model.keyword_logits(params, memory, inputs))
        parts = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return tokens, aux["keyword_log_probabilities"], parts

    tokens, found, expected = decode(params)
    assert len(np.unique(tokens)) > 3
    np.testing.assert_allclose(found, jnp.where(tokens > 0, expected, 0.0), atol=2e-4)
