import jax
import jax.numpy as jnp
import numpy as np

from richhf.models.decoding import decode_greedily


def scripted(script):
    """A step that likes the script's tokens (with probability .7 of 10 tokens)."""
    script = jnp.asarray(script)

    def step(tokens, position, cache):
        wanted = jax.nn.one_hot(script[:, position], 10)
        return jnp.log(wanted * 0.7 + (1 - wanted) * 0.3 / 9), cache

    length = script.shape[1]
    return jax.jit(lambda: decode_greedily(step, jnp.zeros(()), batch=2, length=length))()


def test_rows_end_at_their_own_end_and_are_padded():
    tokens, log_probabilities = scripted([[5, 1, 7, 7], [6, 6, 1, 8]])
    np.testing.assert_array_equal(tokens, [[5, 1, 0, 0], [6, 6, 1, 0]])
    chosen = np.log(0.7)
    np.testing.assert_allclose(
        log_probabilities, [[chosen, chosen, 0, 0], [chosen, chosen, chosen, 0]], rtol=1e-5
    )


def test_rows_without_an_end_are_cut_at_the_length():
    tokens, _ = scripted([[5, 6, 7], [8, 9, 2]])
    np.testing.assert_array_equal(tokens, [[5, 6, 7], [8, 9, 2]])


def test_no_step_is_made_after_all_rows_have_ended():
    made = []

    def step(tokens, position, cache):
        jax.debug.callback(lambda p: made.append(int(p)), position)
        return jax.nn.one_hot(jnp.ones(2, jnp.int32), 4), cache

    tokens, _ = decode_greedily(step, jnp.zeros(()), batch=2, length=6)
    tokens.block_until_ready()
    jax.effects_barrier()
    assert made == [0]


def test_each_step_is_fed_the_token_before_it():
    def step(tokens, position, cache):
        return jax.nn.one_hot(tokens + 2, 20), cache

    tokens, _ = decode_greedily(step, jnp.zeros(()), batch=1, length=4)
    np.testing.assert_array_equal(tokens, [[2, 4, 6, 8]])
