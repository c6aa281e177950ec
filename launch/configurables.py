"""Every constructor that gin files may name, under T5X-like names. Library code itself knows no gin."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import seqio

import gin
import launch.benchmark_job
import launch.eval_job
import launch.export_job
import launch.infer_job
import launch.input_benchmark
import launch.precompile_job
import launch.step_benchmark
import launch.train_job
import tasks.captioning
import tasks.mixture
import tasks.richhf18k
import tasks.synthetic
from launch.gin_config import ConfigError, macros
from launch.gin_sources import how_to_configure
from richhf import models
from richhf.data.datasets import DatasetConfig
from richhf.evaluation import Gallery
from richhf.training import optimizers, schedules, train
from richhf.training.partitioning import Partitioner
from tasks.augmentation import Augmentation

# By name. A gin file may put a module before it or not: `models.RAHFConfig` or `RAHFConfig`.
SOURCES = {
    "models": (
        models.HeatmapHeadConfig,
        models.HeatmapLoss,
        models.KeywordLoss,
        models.RAHFConfig,
        models.RichFeedbackModel,
        models.ScoreHeadConfig,
        models.ScoreLoss,
        models.T5Config,
        models.ViTConfig,
        models.WordLoss,
        models.ImageWordLoss,
    ),
    "utils": (DatasetConfig, schedules.create_learning_rate_scheduler),
    "partitioning": (Partitioner,),
    "optimizers": (optimizers.adafactor, optimizers.adamw, optimizers.muon),
    "synthetic": (tasks.synthetic.register,),
    "richhf18k": (tasks.richhf18k.register,),
    "captioning": (tasks.captioning.register,),
    "mixture": (tasks.mixture.register,),
    "augmentation": (Augmentation,),
    "seqio": (seqio.ByteVocabulary, seqio.SentencePieceVocabulary),
    "evaluation": (Gallery,),
    "training": (train.train,),
    "benchmark": (
        launch.input_benchmark.input_pipeline,
        launch.step_benchmark.train_step,
        launch.step_benchmark.predict_step,
    ),
    "launch": (
        launch.benchmark_job.benchmark,
        launch.eval_job.evaluate,
        launch.export_job.export_job,
        launch.infer_job.infer_job,
        launch.precompile_job.precompile,
        launch.train_job.train_job,
    ),
}

CONFIGURABLES = {
    f"{module}.{target.__name__}": gin.external_configurable(target, target.__name__, module=module)
    for module, targets in SOURCES.items()
    for target in targets
}
PARAMETERS = {
    f"{module}.{target.__name__}": target for module, targets in SOURCES.items() for target in targets
}


def call_job(name: str, given: Mapping[str, Any] | None = None, unread: Sequence[str] = ()) -> Any:
    """Calls a job with what gin configures for it.

    Args:
      name: the job, `launch.train_job`.
      given: arguments that the command line gives besides.
      unread: names of macros that the command never reads.

    Raises:
      ConfigError: the gin files do not configure the job; names the files and macros that are missing.
    """
    given = given or {}
    parameters = inspect.signature(PARAMETERS[name]).parameters.values()
    required = {one.name for one in parameters if one.default is inspect.Parameter.empty}
    if missing := required - {*given, *gin.get_bindings(name, resolve_references=False)}:
        job = name.rpartition(".")[2]
        raise ConfigError(
            f"no gin file configures {job} ({', '.join(sorted(missing))}). "
            f"{how_to_configure(job, [*macros(), *unread])}"
        )
    return CONFIGURABLES[name](**given)
