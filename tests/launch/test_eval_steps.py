"""launch.eval over several checkpoints of one run, and T5X's evaluator beside it."""

import json
import pathlib

import jax
import numpy as np
import pytest
import seqio
from tensorboard.backend.event_processing import event_accumulator

from launch import configurables
from richhf.data.features import RichFeedbackFeatureConverter
from richhf.evaluation import flatten_metrics
from richhf.models import RichFeedbackModel
from richhf.training.saved_params import restore_params

NAME = "synthetic_multi_head"


def read_lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def metrics_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def traced(monkeypatch):
    """How often prediction is traced, which is before each compilation."""
    calls = []
    plain = RichFeedbackModel.predict_batch

    def counted(*args, **kwargs):
        calls.append(args)
        return plain(*args, **kwargs)

    monkeypatch.setattr(RichFeedbackModel, "predict_batch", counted)
    return calls


def test_all_checkpoints_are_evaluated_once(train, evaluate, tmp_path, capsys, traced):
    run, out = tmp_path / "run", tmp_path / "out"
    assert train("--gin.CHECKPOINT_PERIOD=1", steps=2) == 0
    arguments = [f"--gin.EVAL_OUTPUT_DIR={out}", "--gin.Gallery.best=2", "--gin.Gallery.worst=0"]
    assert evaluate("--gin.CHECKPOINT_STEP=all", *arguments) == 0
    assert len(traced) == 1
    steps = [metrics_of(out / f"step_{step}") for step in (1, 2)]
    assert [metrics["step"] for metrics in steps] == [1, 2]
    assert steps[0]["model"] != steps[1]["model"]
    for row in ("mean_baseline", "noise_ceiling", "flag_every_word"):
        assert steps[0][row] == steps[1][row]
    assert metrics_of(out) == steps[1]
    lines = read_lines(out / "steps.jsonl")
    assert [line.pop("step") for line in lines] == [1, 2]
    assert lines == [flatten_metrics(metrics["model"]) for metrics in steps]
    assert "| best step |" in (out / "steps.md").read_text()
    check_examples(steps[1], read_lines(out / "step_2" / "examples.jsonl"))
    check_intervals(steps[1])
    check_events(out / "eval_test", steps)

    # Run again, it evaluates nothing; following, it knows that the run is over.
    before = (out / "step_1" / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert evaluate("--gin.CHECKPOINT_STEP=follow", *arguments) == 0
    printed = capsys.readouterr().out
    assert "evaluated before: step 1, step 2\n" in printed
    assert "step 2 is the run's last" in printed
    assert "best step" in printed
    assert (out / "step_1" / "metrics.json").stat().st_mtime_ns == before
    assert len(traced) == 1
    assert evaluate("--gin.CHECKPOINT_STEP=3", *arguments) == 2
    assert "no checkpoint of step 3" in (said := capsys.readouterr().err)
    assert "found steps [1, 2]" in said
    assert evaluate("--gin.SPLIT=tets", *arguments) == 2
    assert "no split 'tets'. Did you mean 'test'" in capsys.readouterr().err

    # T5X evaluates through SeqIO, from the same task; here with batches of another size, and on the host.
    assert evaluate_with_seqio(run) == pytest.approx(flatten_metrics(steps[1]["model"]), rel=1e-4, abs=1e-5)


def evaluate_with_seqio(run):
    model, params = configurables.CONFIGURABLES["models.RichFeedbackModel"](), restore_params(run)
    lengths = {"image": 32, "inputs": 24, "targets": 24}
    evaluator = seqio.Evaluator(
        NAME, RichFeedbackFeatureConverter(), eval_split="test", sequence_length=lengths
    )

    def predict(dataset):
        batches = dataset.batch(10).as_numpy_iterator()
        step = jax.jit(model.predict_batch)
        outputs = [(i, step(params, features)) for i, features in batches]
        tokens, aux = [], {"heatmaps": [], "scores": [], "keyword_tokens": []}
        for indices, out in outputs:
            tokens += zip(map(int, indices), np.asarray(out["keyword_tokens"]), strict=True)
            for name, values in aux.items():
                values += list(np.asarray(out[name]))
        return tokens, aux

    future, _ = evaluator.evaluate(compute_metrics=True, predict_with_aux_fn=predict)
    return dict(future.result()[NAME])


def check_examples(metrics, lines):
    """The metrics are the means of what the lines say, in both conventions of keywords."""
    assert len({line["filename"] for line in lines}) == len(lines) == metrics["examples"] == 10
    for name, found in metrics["model"]["heatmaps"].items():
        for metric, mean in found.items():
            values = [line["heatmaps"][name][metric] for line in lines]
            known = [value for value in values if value is not None]
            assert mean == (pytest.approx(np.mean(known), rel=1e-5) if known else None)
    assert all({"predicted", "true"} == line["scores"]["overall"].keys() for line in lines)
    valid = [line["keywords"] for line in lines if line["keywords"]["true"] is not None]
    hits, alarms, misses = (
        sum(keywords["pooled"][count] for keywords in valid) for count in ("hits", "false_alarms", "misses")
    )
    pooled, samples = (metrics["model"]["keywords"][name] for name in ("pooled", "per_sample"))
    assert pooled["precision"] == pytest.approx(hits / max(hits + alarms, 1))
    assert pooled["recall"] == pytest.approx(hits / max(hits + misses, 1))
    assert samples["f1"] == pytest.approx(np.mean([keywords["per_sample"]["f1"] for keywords in valid]))


def check_intervals(metrics):
    values, intervals = metrics["model"], metrics["intervals"]
    for group in ("scores", "heatmaps", "keywords"):
        assert values[group].keys() == intervals[group].keys()
        for name, found in values[group].items():
            for metric, value in found.items():
                low, high = intervals[group][name][metric] or (None, None)
                assert (low is None) == (value is None)
                assert value is None or low <= high


def check_events(folder, steps):
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    for name in ("scores/plausibility/plcc", "heatmaps/implausibility/cc", "keywords/pooled/f1"):
        found = {event.step: float(np.ravel(_array(event))[0]) for event in events.Tensors(name)}
        expected = {metrics["step"]: flatten_metrics(metrics["model"])[name] for metrics in steps}
        assert found == pytest.approx(expected, rel=1e-6)
    for name in ("best/implausibility", "random/misalignment"):
        pictures = [_array(event) for event in events.Tensors(name)]
        assert len(pictures) == len(steps)
        # Width, height, and a panel of three images side by side for each example.
        width, height, *panels = pictures[0]
        assert (int(width), int(height)) == (96, 32)
        assert len(panels) == (2 if name.startswith("best") else 8)


def _array(event):
    from tensorflow import make_ndarray

    return make_ndarray(event.tensor_proto)


@pytest.mark.filterwarnings("always:the checkpoint of step 2 is damaged:UserWarning")
def test_a_damaged_checkpoint_is_an_error_alone_and_left_out_among_several(train, evaluate, tmp_path, capsys):
    assert train("--gin.CHECKPOINT_PERIOD=1", "--gin.EMA_DECAY=0.0") == 0
    damaged = tmp_path / "run/checkpoints/2/params/manifest.ocdbt"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    for step in ("None", "2"):
        capsys.readouterr()
        assert evaluate(f"--gin.CHECKPOINT_STEP={step}") == 2
        (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("launch.")]
        assert "the checkpoint of step 2 in " in line
        assert "is damaged: params/manifest.ocdbt differs from what was written. Use another step" in line
        assert "(there are 1)" in line
    assert not (tmp_path / "run/metrics.json").exists()
    assert evaluate("--gin.CHECKPOINT_STEP=all") == 0
    assert "step 2: the checkpoint is damaged (" in capsys.readouterr().out
    assert (tmp_path / "run/step_1/metrics.json").exists()
    assert not (tmp_path / "run/step_2/metrics.json").exists()

    assert train("--dry-run", "--gin.EMA_DECAY=0.0", steps=3) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "going on from step 1 of 3" in said
    assert "(steps [2] are damaged and would be set aside)" in said
    assert train("--gin.EMA_DECAY=0.0", steps=3) == 0
    warned = [text for text in capsys.readouterr().err.splitlines() if "is damaged" in text]
    assert len(warned) == 1
    assert warned[0].startswith("launch.train: the checkpoint of step 2 is damaged, set aside as ")
