import json
import sys

import numpy as np
import pytest

import richhf
from launch import export as launch_export
from richhf.data.records import read_records, write_records
from richhf.feedback import Rule
from richhf.inference.export import FORMATS
from richhf.inference.export_signature import random_inputs
from richhf.pretrained.native import read_model

WRONG = {
    "--gin.FORMAT=stable_hlo": "Did you mean 'stablehlo'",
    "--gin.EXPORT_DIR={run}": "is what is to be exported",
    "--gin.EXPORT_DIR={run}/checkpoints/1/exported": "lies in what is to be exported",
    "--gin.EXPORT_DIR={run}/..": "holds what is to be exported",
    "--gin.EXPORT_DIR={run}/vocabulary.model": "is a file; expected the folder",
    "--gin.MODEL_DIR={run}/nowhere": "nowhere does not exist; expected a run",
    "--gin.CHECKPOINT_STEP=7": "7",
    "--gin.CALIBRATE_ON={run}/nowhere": "does not exist",
    "--gin.CALIBRATE_ON={run}": "no *.tfrecord file in",
    "--gin.SEE_PROMPT=False": "trained with True",
    "--gin.T5Config.vocab_size=100": "pieces, but the model embeds 100",
    "--gin.ViTConfig.width=24": "does not fit this model",
}


@pytest.fixture
def export(gin_files, tmp_path):
    """Runs launch.export in this process; returns its exit status."""

    def run(file_format, *arguments, name="exported"):
        places = {"MODEL_DIR": tmp_path / "run", "EXPORT_DIR": tmp_path / name, "FORMAT": file_format}
        flags = [f"--gin.{key}={value}" for key, value in places.items()]
        return launch_export.main([*gin_files("tiny_multi_head", "export"), *flags, *arguments])

    return run


def test_a_run_becomes_a_calibrated_model_folder_and_that_another_format(
    made_run, export, data_dir, tmp_path, capsys
):
    made_run()
    labelled = sorted(data_dir.glob("train*.tfrecord*"))
    demonstration = "it was trained for one step."
    flags = [f"--gin.CALIBRATE_ON={labelled[0]}", f"--gin.DEMONSTRATION={demonstration!r}"]
    assert export("native", *flags) == 0
    printed = capsys.readouterr().out
    assert "verdicts, calibrated on 40 records of train" in printed
    assert "| `has_artifact` | implausibility + plausibility |" in printed
    assert "largest difference 0.0e+00" in printed
    predictor = richhf.load(tmp_path / "exported")
    thresholds = predictor.settings.thresholds
    assert 0 <= thresholds["implausibility"] <= 1
    assert predictor.settings.provenance["step"] == 1
    card = (tmp_path / "exported/README.md").read_text()
    assert "calibrated on 40 examples; error rates on: 5-fold cross-validation" in card
    assert f"This model is a demonstration: {demonstration}" in card
    assert repr(predictor).endswith(f"a demonstration: {demonstration})")
    calibration = predictor.settings.calibration
    assert calibration["balance"] == "equal weight to the false positive rate and the false negative rate"
    assert calibration["examples"] == 40
    record = next(iter(read_records(labelled)))
    feedback = predictor(record.decode_image(), record.prompt)[0]
    finding = feedback.findings["has_artifact"]
    rule = predictor.settings.rules[0]
    assert rule.outputs == ("implausibility", "plausibility")
    assert finding.verdict == (finding.probability >= rule.threshold)

    # The folder says all that the run's gin files said, and keeps its thresholds.
    again = ["--gin_file=gin/runs/export.gin", f"--gin.CHECKPOINT={tmp_path / 'exported'}"]
    again += ["--gin.FORMAT=stablehlo", f"--gin.EXPORT_DIR={tmp_path / 'other'}"]
    assert launch_export.main(again) == 0
    signature = json.loads((tmp_path / "other/signature.json").read_text())
    assert signature["thresholds"] == thresholds
    assert [Rule.from_dict(rule) for rule in signature["rules"]] == list(predictor.settings.rules)
    native = read_model(tmp_path / "exported")
    inputs = random_inputs(native, 3)
    ours, theirs = (
        FORMATS[name][1](tmp_path / folder)(*inputs)
        for name, folder in (("native", "exported"), ("stablehlo", "other"))
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("flag", WRONG)
def test_what_cannot_be_exported_is_told(flag, made_run, export, tmp_path, capsys):
    made_run()
    assert export("native", flag.format(run=tmp_path / "run")) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert WRONG[flag] in message
    assert not (tmp_path / "exported").exists()


def test_a_model_folder_that_is_not_there_is_told_before_settings_that_it_needs_not(tmp_path, capsys):
    places = {"CHECKPOINT": tmp_path / "nope", "EXPORT_DIR": tmp_path / "exported", "FORMAT": "native"}
    flags = [f"--gin.{key}={value}" for key, value in places.items()]
    assert launch_export.main(["--gin_file=gin/runs/export.gin", *flags]) == 2
    assert "nope does not exist; expected a run (MODEL_DIR), or a native" in capsys.readouterr().err


def test_records_that_tell_nothing_calibrate_nothing(made_run, export, data_dir, tmp_path, capsys):
    made_run()
    records = (record for record in read_records(sorted(data_dir.glob("train*"))))
    marked = next(record for record in records if record.to_feedback().heatmaps["implausibility"].max() > 0)
    write_records(tmp_path / "one.tfrecord", [marked])
    assert export("native", f"--gin.CALIBRATE_ON={tmp_path / 'one.tfrecord'}") == 2
    assert "Nothing can be calibrated on the 1 records of one.tfrecord" in capsys.readouterr().err


def test_error_rates_can_be_measured_on_other_records(made_run, export, data_dir, tmp_path, capsys):
    made_run()
    (dev,), (test,) = (sorted(data_dir.glob(f"{split}*.tfrecord*"))[:1] for split in ("dev", "test"))
    assert export("native", f"--gin.REPORT_ON={test}") == 2
    assert "expected CALIBRATE_ON with it" in capsys.readouterr().err
    assert export("native", f"--gin.CALIBRATE_ON={dev}", f"--gin.REPORT_ON={test}") == 0
    calibration = richhf.load(tmp_path / "exported").settings.calibration
    assert calibration["held_out"] == "examples that were not used for calibration"
    assert (calibration["calibrated_on"], calibration["reported_on"]) == (dev.name, test.name)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_format_whose_tools_are_missing_is_told_before_anything_is_read(
    export, monkeypatch, tmp_path, capsys, module
):
    monkeypatch.setitem(sys.modules, module, None)
    assert export("onnx", f"--gin.CALIBRATE_ON={tmp_path / 'nowhere'}") == 2
    message = capsys.readouterr().err
    assert f"needs {module}" in message
    assert message.count("pip install -e '.[train,export]'") == 1
    assert not (tmp_path / "exported").exists()


def test_an_export_into_a_run_spares_what_is_exported(made_run, export, tmp_path, capsys):
    made_run()
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    (step,) = (tmp_path / "run/checkpoints").glob("[0-9]*")
    wrong = {
        step / "exported": "lies in",
        step.parent / "2": "lies in",
        tmp_path / "link": "holds",
        tmp_path / "link/checkpoints": "holds",
    }
    for folder, how in wrong.items():
        assert export("native", f"--gin.CHECKPOINT={step}", f"--gin.EXPORT_DIR={folder}") == 2
        assert f"{how} what is to be exported" in capsys.readouterr().err
    assert export("native", name="run/exported") == 0
    assert richhf.load(tmp_path / "run/exported").settings.provenance["step"] == 1
    assert step.is_dir()
