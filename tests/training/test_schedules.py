import math

import jax
import numpy as np
import pytest

from richhf.training.schedules import create_learning_rate_scheduler

STEPS = np.arange(0, 400, 7)


def values(schedule):
    return np.asarray(jax.vmap(schedule)(STEPS))


def test_the_papers_schedule_against_its_closed_form():
    schedule = create_learning_rate_scheduler(
        "constant * linear_warmup * rsqrt_decay", base_learning_rate=0.015, warmup_steps=100
    )
    expected = [0.015 * (min(1, (s + 1) / 100)) * math.sqrt(100 / max(s, 100)) for s in STEPS]
    np.testing.assert_allclose(values(schedule), expected, rtol=1e-6)


def test_cosine_and_linear_decay_against_their_closed_forms():
    settings = {"base_learning_rate": 2.0, "warmup_steps": 50, "decay_steps": 300, "min_ratio": 0.1}
    share = np.clip((STEPS - 50) / 250, 0, 1)
    cosine = create_learning_rate_scheduler(("constant", "cosine_decay"), **settings)
    np.testing.assert_allclose(values(cosine), 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * share)) / 2), rtol=1e-5)
    linear = create_learning_rate_scheduler("constant*linear_decay", **settings)
    np.testing.assert_allclose(values(linear), 2.0 * (1 - 0.9 * share), rtol=1e-5)


def test_first_step_learns_and_warm_up_ends_at_the_peak():
    schedule = create_learning_rate_scheduler(
        "constant * linear_warmup", base_learning_rate=1.0, warmup_steps=10
    )
    assert float(schedule(0)) == pytest.approx(0.1)
    assert float(schedule(9)) == float(schedule(500)) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": "constant * linear_warmpu"}, "'linear_warmpu'. Did you mean 'linear_warmup'"),
        ({"factors": "constant * cosine_decay"}, "decay_steps=None .* and warmup_steps=1000: train longer"),
        ({"factors": "linear_decay", "decay_steps": 10, "warmup_steps": 10}, "decay_steps=10"),
        ({"factors": "linear_warmup", "warmup_steps": 0}, "warmup_steps >= 1, got 0"),
    ],
)
def test_schedules_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        create_learning_rate_scheduler(**settings)
