"""Every shipped model file, at its real size, without computing anything."""

import pathlib

import flax.linen as nn
import jax
import numpy as np
import pytest

import gin
from launch import configurables, gin_config
from richhf.models import parameter_counts
from richhf.models.batch_spec import batch_spec
from richhf.training.partitioning import Partitioner
from richhf.training.programs import initializer
from richhf.training.run_log import read_log
from richhf.training.saved_params import restore_params
from richhf.training.train_step import train_step

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = sorted(path.stem for path in (ROOT / "gin/models").glob("*.gin") if "MODEL =" in path.read_text())


TINY = [name for name in MODELS if name.startswith("tiny")]
# The author's large model, in millions. Of the 304.74 M of its ViT, 1.05 M are the pooler of a converted
# ImageNet model, a dense layer on the class token that nothing reads: not made here.
AUTHORS = {"vit": 304.74, "t5": 222.90, "heatmap_heads": 64.39, "score_heads": 49.79}
POOLER = 1024 * 1024 + 1024


def load(name, run=None, *flags):
    tiny = name in TINY
    data, run = "synthetic" if tiny else "richhf18k", run or ("train" if tiny else "finetune")
    files = (f"gin/models/{name}.gin", f"gin/data/{data}.gin", f"gin/runs/{run}.gin")
    values = {"MODEL_DIR": "x", "TRAIN_STEPS": 1000, "REGISTER_TASKS": None}
    given = [f"--gin.{key}={value}" for key, value in values.items()]
    argv = [*(f"--gin_file={file}" for file in files), *given, *flags]
    gin_config.load(gin_config.parse_flags(argv), configurables.PARAMETERS)
    return configurables.CONFIGURABLES["models.RichFeedbackModel"]()


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    yield
    gin.clear_config()


@pytest.fixture(params=MODELS)
def model(request):
    return load(request.param)


def specs(model, batch_size=8, **settings):
    lengths = gin.get_bindings("train/utils.DatasetConfig")["task_feature_lengths"]
    return batch_spec(model.config, lengths, batch_size, **settings)


def counts(model):
    shapes = {name: spec.shape for name, spec in specs(model).items()}
    return parameter_counts(jax.eval_shape(lambda: model.get_initial_variables(jax.random.key(0), shapes)))


def test_whole_step_traces_and_every_axis_has_a_rule(model):
    batch = specs(model)
    optimizer = gin.get_bindings("training.train")["optimizer"]
    sizes, types = (
        {name: getattr(spec, field) for name, spec in batch.items()} for field in ("shape", "dtype")
    )
    _, target = initializer(model, optimizer, Partitioner(fsdp=2, model=2), sizes, types, ema_decay=0.9)
    after, metrics = jax.eval_shape(
        lambda state, batch: train_step(
            state, batch, jax.random.key(0), loss_fn=model.loss_fn, totals_fn=model.loss_totals,
            optimizer=optimizer, num_microbatches=2, ema_decay=0.9,
        ),
        target, batch,
    )  # fmt: skip
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), target
    )
    losses = ("misalignment", "overall", "keywords")
    losses += ("words", "image_words") if model.config.word_head else ()
    assert {"loss", *(f"loss/{name}" for name in losses)} <= metrics.keys()
    split = [x for x in jax.tree.leaves(target.params) if not x.sharding.is_fully_replicated]
    total = sum(x.size for x in jax.tree.leaves(target.params))
    assert sum(x.size for x in split) > 0.95 * total


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_are_tiny(name):
    assert 0.5e6 < sum(counts(load(name)).values()) < 2e6


def test_the_authors_model_has_his_numbers_of_parameters():
    found = counts(load("large384_multi_head"))
    found["vit"] += POOLER
    assert {part: round(found[part] / 1e6, 2) for part in AUTHORS} == AUTHORS
    assert found["visual_token_projection"] == 1024 * 768 + 768
    shared = counts(load("large384_augmented_prompt"))
    assert {"heatmap_heads": 2 * shared["heatmap_heads"], "score_heads": 4 * shared["score_heads"]} == {
        part: found[part] for part in ("heatmap_heads", "score_heads")
    }


def test_the_papers_model_has_the_published_sizes_of_its_encoders():
    found = counts(load("base_augmented_prompt"))
    # ViT-B/16: 86 M; T5-base: 223 M (Dosovitskiy et al. 2021, Raffel et al. 2020).
    assert (round(found["vit"] / 1e6), round(found["t5"] / 1e6)) == (86, 223)


def test_the_papers_schedule_peaks_after_its_warm_up_and_falls_by_the_root():
    load("base_multi_head")
    settings = gin.get_bindings("training.train")
    rate = settings["optimizer"].learning_rate
    np.testing.assert_allclose([rate(1999), rate(8000), rate(999)], [0.015, 0.0075, 0.0075], rtol=1e-5)


def test_the_authors_schedule_is_a_cosine_from_start_to_half():
    load("large384_multi_head", "finetune_author", "--gin.TRAIN_STEPS=59287")
    settings = gin.get_bindings("training.train")
    rate = settings["optimizer"].learning_rate
    assert settings["total_steps"] == 59287 == 30 * 15810 // 8
    np.testing.assert_allclose([rate(0), rate(29643.5), rate(59287)], [2e-5, 1.5e-5, 1e-5], rtol=1e-5)


def test_a_large_model_shrunk_learns_for_real(train, tmp_path, capsys):
    """As shipped in all but size: bfloat16, recomputed blocks, microbatches, the run's optimizer."""
    flags = {"MIXTURE_OR_TASK_NAME": "synthetic_augmented_prompt", "NUM_MICROBATCHES": 2, "BATCH_SIZE": 4}
    given = [f"--gin.{name}={value}" for name, value in flags.items()]
    assert train(*given, model="base_augmented_prompt", run_file="finetune") == 0
    assert {leaf.dtype.name for leaf in jax.tree.leaves(restore_params(tmp_path / "run"))} == {"float32"}
    losses = [line["loss"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert losses
    assert np.isfinite(losses).all()
    capsys.readouterr()
    run = {"model": "base_augmented_prompt", "run_file": "finetune"}
    assert train("--gin.SCAN_LAYERS=False", *given, **run) == 2
    assert "the run was trained with True: set --gin.SCAN_LAYERS=True" in capsys.readouterr().err


@pytest.mark.parametrize(
    "order",
    [("models/large384_multi_head", "data/richhf18k"), ("data/richhf18k", "models/large384_multi_head")],
)
def test_a_data_files_lengths_count_before_and_behind_a_model_file(order):
    argv = [*(f"--gin_file=gin/{name}.gin" for name in (*order, "runs/eval")), "--gin.MODEL_DIR=x"]
    gin_config.load(gin_config.parse_flags(argv), configurables.PARAMETERS)
    lengths = gin.get_bindings("utils.DatasetConfig")["task_feature_lengths"]
    assert lengths == {"image": 384, "heatmaps": 512, "inputs": 128, "targets": 64}


def test_every_model_can_train_under_t5x():
    """Its file there is this project's own and the same adapter around it."""
    files = {path.stem: path.read_text() for path in (ROOT / "gin/t5x").glob("*.gin")}
    assert {*MODELS} == {name for name, text in files.items() if "MODEL =" in text}
    for name in MODELS:
        *_, include, adapter, model = files[name].splitlines()
        assert include == f'include "gin/models/{name}.gin"'
        assert adapter == "MODEL = @t5x_model.T5XModel()"
        assert model == "t5x_model.T5XModel.model = @models.RichFeedbackModel()"


def test_captions_train_no_head():
    model = load("base_augmented_prompt", "pretrain_captions")
    batch = specs(model, labels=gin.get_bindings("launch.precompile")["labels"])
    _, metrics = jax.eval_shape(
        lambda p, b: model.loss_fn(p, b, None),
        nn.unbox(
            jax.eval_shape(
                lambda: model.get_initial_variables(
                    jax.random.key(0), {name: spec.shape for name, spec in batch.items()}
                )["params"]
            )
        ),
        batch,
    )
    assert {name for name in metrics if name.startswith("loss/")} == {"loss/keywords"}
