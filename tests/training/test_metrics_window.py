import time

import pytest

from richhf.training.metrics_window import MetricsWindow

METRICS = {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "skipped_steps": 0, "skipped_in_row": 0}


def test_right_after_a_log_line_the_rate_is_that_of_the_line():
    window = MetricsWindow(8, 0.0, max_nonfinite_steps=3, note=pytest.fail)
    assert window.rate == 0
    for step in range(1, 4):
        window.add(step, METRICS)
        time.sleep(0.01)
    logged = window.summary()["images_per_second"]
    assert 0 < logged < 8 * 2 / 0.02
    assert window.rate == pytest.approx(logged, abs=0.01)
    window.add(4, METRICS)
    window.add(5, METRICS)
    time.sleep(0.1)
    assert window.rate < logged
