"""Every constructor that gin files may name, under T5X-like names. Library code itself knows no gin."""

import seqio

import gin
import launch.eval_job
import launch.precompile_job
import launch.train_job
import tasks.synthetic
from richhf import models
from richhf.data.datasets import DatasetConfig
from richhf.evaluation import Gallery
from richhf.training import optimizers, schedules, train
from richhf.training.partitioning import Partitioner

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
    "seqio": (seqio.ByteVocabulary, seqio.SentencePieceVocabulary),
    "evaluation": (Gallery,),
    "training": (train.train,),
    "launch": (launch.eval_job.evaluate, launch.precompile_job.precompile, launch.train_job.train_job),
}

CONFIGURABLES = {
    f"{module}.{target.__name__}": gin.external_configurable(target, target.__name__, module=module)
    for module, targets in SOURCES.items()
    for target in targets
}
PARAMETERS = {
    f"{module}.{target.__name__}": target for module, targets in SOURCES.items() for target in targets
}
