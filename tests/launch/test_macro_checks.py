"""A wrong value of any macro is an error that names the macro, before anything is done."""

import re

import pytest

import gin
from launch import benchmark, configurables, gin_config, infer, precompile
from launch import eval as launch_eval
from launch import export as launch_export
from launch import train as launch_train
from launch.gin_config import ConfigError
from launch.macro_checks import LEAST, check_values, fit_warmup

MAINS = {
    "train": (launch_train, ("train",)),
    "eval": (launch_eval, ("eval",)),
    "infer": (infer, ("infer",)),
    "export": (launch_export, ("export",)),
    "precompile": (precompile, ("finetune",)),
    "benchmark": (benchmark, ("train", "benchmark")),
}
STRINGS = {"INPUT": "pictures", "OUTPUT_DIR": "build/out", "EXPORT_DIR": "build/export", "FORMAT": "native"}
GIVEN = {
    **{key: {"TRAIN_STEPS": 200} for key in ("train", "precompile", "benchmark")},
    "eval": {},
    "infer": {name: STRINGS[name] for name in ("INPUT", "OUTPUT_DIR")},
    "export": {name: STRINGS[name] for name in ("EXPORT_DIR", "FORMAT")},
}


@pytest.fixture
def load(gin_files):
    """Reads the files of an entry point with further flags, and checks the values."""

    def call(name, *flags, model="tiny_multi_head", data="synthetic"):
        runs = MAINS[name][1]
        files = gin_files(model, runs[0], data)
        files += [f"--gin_file=gin/runs/{run}.gin" for run in runs[1:]]
        required = GIVEN[name] | {"MODEL_DIR": "build/none"}
        given = [f"--gin.{key}={value}" for key, value in required.items()]
        gin_config.load(gin_config.parse_flags([*files, *given, *flags]), configurables.PARAMETERS)
        check_values(configurables.PARAMETERS)

    return call


def wrong_values(value, name):
    """Values of other types than a macro's."""
    if isinstance(value, gin.config.ConfigurableReference):
        return ("abc", 5, (1, 2))
    if isinstance(value, bool):
        return ("abc", 3, (1,))
    if isinstance(value, int):
        return ("abc", 1.5, True, (1,), *([-1] if name in LEAST else []))
    if isinstance(value, float):
        return ("abc", True, (1,), *([-1.0] if name in LEAST else []))
    if isinstance(value, str):
        return (7, 1.5, {"a": 1}, True)
    if isinstance(value, dict):
        return ("abc", 5, {1: "x"})
    if isinstance(value, list | tuple):
        return ("abc", 5, {"a": 1})
    return ()


def bind(name, value):
    with gin.unlock_config():
        gin.bind_parameter(f"{name}/macro.value", value)


@pytest.mark.parametrize("name", MAINS)
def test_a_wrong_type_of_any_macro_is_named(load, name):
    load(name)
    bound = {
        macro: value
        for macro, value in gin_config.macros().items()
        if macro in gin_config.used_macros() and macro not in ("CHECKPOINT_STEP", "INITIAL_CHECKPOINT_PATH")
    }
    tried = 0
    for macro, value in bound.items():
        resolved = value
        while isinstance(resolved, gin.config.ConfigurableReference) and resolved.selector == "gin.macro":
            resolved = bound.get(resolved.scopes[-1])
        for wrong in wrong_values(resolved, macro):
            bind(macro, wrong)
            with pytest.raises(ConfigError, match=rf"^{macro} is .*; expected ") as error:
                check_values(configurables.PARAMETERS)
            assert "\n" not in str(error.value), macro
            tried += 1
        bind(macro, value)
    assert tried > 20


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("TRAIN_STEPS=abc", "TRAIN_STEPS is 'abc'; expected a whole number."),
        ("TRAIN_STEPS=1e3", "TRAIN_STEPS is 1000.0; expected a whole number."),
        ("TRAIN_STEPS=None", "TRAIN_STEPS is None; expected a whole number"),
        ("TRAIN_STEPS=0", "TRAIN_STEPS is 0; expected at least 1."),
        ("WARMUP_STEPS=-5", "WARMUP_STEPS is -5; expected at least 0."),
        ("EMA_DECAY=2", "EMA_DECAY is 2; expected at most 1."),
        ("LEARNING_RATE=1e999", "LEARNING_RATE is inf; expected a finite number."),
        ("OPTIMIZER=adam", r"OPTIMIZER is 'adam'; expected .*Did you mean @optimizers.adamw\(\)\?"),
        ("OPTIMIZER=@adamw", r"OPTIMIZER is @adamw; expected .*@optimizers.adamw\(\)"),
        ("OPTIMIZER=@models.ViTConfig()", "OPTIMIZER is @models.ViTConfig"),
        ("MODEL=tiny", r"MODEL is 'tiny'; expected @models.RichFeedbackModel\(\)"),
        ("REGISTER_TASKS=synthetic", "REGISTER_TASKS is 'synthetic'; expected a reference"),
        ("BEST_MODE=mni", "BEST_MODE is 'mni'; expected one of 'min', 'max'. Did you mean 'min'"),
        ("TASK_FEATURE_LENGTHS={'image': 'x'}", "TASK_FEATURE_LENGTHS is 'x'; expected a whole number"),
        ("ViTConfig.stem_widths=(4, 'a')", "ViTConfig.stem_widths is 'a'; expected a whole number"),
        ("ViTConfig.depth=2.0", "ViTConfig.depth is 2.0; expected a whole number"),
        ("MODEL_DIR=(a b", r"--gin.MODEL_DIR=\(a b cannot be read"),
        ("TASK_FEATURE_LENGTHS={image: 3}", r"--gin.TASK_FEATURE_LENGTHS=.* take quotes"),
        ("TRAIN_STEP=3", "no gin file uses TRAIN_STEP .*Did you mean 'TRAIN_STEPS'"),
    ],
)
def test_wrong_values_of_training(load, flag, message):
    with pytest.raises(ValueError, match=message) as error:
        load("train", f"--gin.{flag}")
    assert "\n" not in str(error.value)


def test_unquoted_strings_are_strings(load):
    load("eval", "--gin.TITLE=It's my model, again", "--gin.MODEL_DIR=my run/äö")
    assert gin_config.macros()["TITLE"] == "It's my model, again"
    assert gin_config.macros()["MODEL_DIR"] == "my run/äö"


@pytest.mark.parametrize("model", ["tiny_augmented_prompt", "base_multi_head", "large384_augmented_prompt"])
@pytest.mark.parametrize("data", ["richhf18k", "captions", "richhf18k_and_captions", "synthetic"])
def test_shipped_files_pass(load, model, data):
    task = "synthetic" if data == "synthetic" else data
    variant = "multi_head" if "multi" in model else "augmented_prompt"
    load("precompile", f"--gin.MIXTURE_OR_TASK_NAME={task}_{variant}", model=model, data=data)


@pytest.mark.parametrize(("steps", "warmup"), [(2, 1), (1, 1), (100, 99), (101, 100), (500, 100)])
def test_a_warmup_longer_than_training_is_shortened_with_a_note(load, steps, warmup):
    load("train", f"--gin.TRAIN_STEPS={steps}")
    notes = []
    fit_warmup(notes.append)
    assert gin_config.macros()["WARMUP_STEPS"] == warmup
    assert [bool(re.search(rf"WARMUP_STEPS is 100, .*TRAIN_STEPS = {steps} ", note)) for note in notes] == [
        True
    ] * (warmup != 100)
    schedule = configurables.CONFIGURABLES["utils.create_learning_rate_scheduler"]()
    assert 0 < float(schedule(steps - 1)) <= 0.00100001


@pytest.mark.parametrize("name", MAINS)
def test_a_model_file_alone_names_the_files_and_macros_that_are_missing(gin_files, capsys, name):
    main, runs = MAINS[name]
    status = main.main(["--gin_file=gin/models/tiny_multi_head.gin"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("launch.")]
    assert status == 2
    assert line.startswith(f"launch.{name}: no gin file configures ")
    assert "missing" not in line
    for run in ("train",) if name == "precompile" else runs:
        assert f"--gin_file=gin/runs/{run}.gin" in line
    if name != "precompile":
        assert "gin/data/NAME.gin for " in line
        assert "TASK_FEATURE_LENGTHS" in line
    assert ("--gin.MODEL_DIR=VALUE" in line) == (name not in ("precompile", "benchmark"))
