import numpy as np
import pytest
import seqio

import tasks.synthetic
from richhf.data.features import RichFeedbackFeatureConverter
from tasks.metrics import paper_metrics

NAME = "synthetic_multi_head"


@pytest.fixture(scope="module")
def evaluator(folder, lengths):
    tasks.synthetic.register(folder)
    return seqio.Evaluator(NAME, RichFeedbackFeatureConverter(), eval_split="test", sequence_length=lengths)


def evaluate(evaluator, predict):
    """Runs the evaluator; `predict` gives the tokens, maps and scores of one example's model features."""

    def predict_with_aux(dataset):
        indices, outputs = zip(
            *[(int(i), predict(features)) for i, features in dataset.as_numpy_iterator()], strict=True
        )
        tokens, heatmaps, scores = zip(*outputs, strict=True)
        # The order is given back by the indices.
        order = list(range(len(indices)))[::-1]
        columns = {"heatmaps": heatmaps, "scores": scores, "keyword_tokens": tokens}
        aux = {name: [column[i] for i in order] for name, column in columns.items()}
        return [(indices[i], tokens[i]) for i in order], aux

    future, _ = evaluator.evaluate(compute_metrics=True, predict_with_aux_fn=predict_with_aux)
    return future.result()[NAME]


def test_the_labels_themselves_are_perfect(evaluator):
    metrics = evaluate(
        evaluator,
        lambda f: (f["decoder_target_tokens"], f["heatmaps"].astype(np.float32) / 255, f["scores"]),
    )
    for name in ("plausibility", "alignment", "aesthetics", "overall"):
        assert metrics[f"scores/{name}/plcc"] == pytest.approx(1)
        assert metrics[f"scores/{name}/srcc"] == pytest.approx(1)
    for name in ("implausibility", "misalignment"):
        assert metrics[f"heatmaps/{name}/mse"] == pytest.approx(0, abs=1e-9)
        assert metrics[f"heatmaps/{name}/cc"] == pytest.approx(1)
        assert metrics[f"heatmaps/{name}/sim"] == pytest.approx(1)
    assert metrics["keywords/pooled/f1"] == pytest.approx(1)


def test_constants_know_nothing(evaluator):
    eos = np.array([1] + [0] * 39, np.int32)
    half = np.full((2, 16, 16), 0.5, np.float32), np.full(4, 0.5, np.float32)
    metrics = evaluate(evaluator, lambda _: (eos, *half))
    assert metrics["keywords/pooled/recall"] == 0
    for name in ("implausibility", "misalignment"):
        assert metrics[f"heatmaps/{name}/auc_judd"] == pytest.approx(0.5)
        assert metrics[f"heatmaps/{name}/mse"] > 0.01
    assert not any(metrics.get(f"scores/{name}/plcc", 0) > 0.01 for name in ("plausibility", "overall"))


def test_predictions_without_their_tokens_are_explained(folder, vocabulary):
    metric = paper_metrics(vocabulary)
    with pytest.raises(ValueError, match="lack the auxiliary values keyword_tokens"):
        metric([], [], {"heatmaps": [], "scores": []})
