"""The training job: data and model fitted together and handed to the trainer."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import gin
from launch.checkpoint_source import check_prompts
from launch.data_fit import (
    VOCABULARY_FILE,
    check_data_fit,
    check_embedding_used,
    check_map_size,
    check_rows,
    check_vocabulary,
    explained_reading,
    keep_vocabulary,
    register_task,
)
from launch.gin_config import AS_TRAINED, CONFIG_FILE, check_recorded, macros
from launch.initial_weights import Given, InitialWeights, find_vocabularies, fresh_warning
from launch.panels import Panels
from launch.training_plan import print_plan
from richhf.atomic import atomic_path
from richhf.data.datasets import DatasetConfig, eval_batches
from richhf.data.prompts import PLAIN
from richhf.data.training_stream import train_iterator
from richhf.inference.load import MODEL_FILE
from richhf.pretrained.native import Settings, describe_model
from richhf.training.partitioning import Partitioner
from richhf.training.saved_params import has_checkpoints


def train_job(
    *,
    model: Any,
    model_dir: str,
    train_dataset_cfg: DatasetConfig,
    train: Callable[..., Any],
    register_tasks: Callable[[], Any] | None = None,
    partitioner: Partitioner | None = None,
    train_eval_dataset_cfg: DatasetConfig | None = None,
    initial_checkpoint_path: Given | None = None,
    num_panels: int = 4,
    expects_pretrained: bool = False,
    dry_run: str = "",
) -> Any:
    """Trains and returns the last state.

    Every gin value in use, defaults too, is in MODEL_DIR/config.gin, and what `richhf.load` needs to know of
    the model in MODEL_DIR/model.json. Going on with other values overwrites them; those that a checkpoint was
    trained with stay in its folder `run`.

    Args:
      model: a `RichFeedbackModel`.
      model_dir: where everything is written; going on from its latest checkpoint, if there is one.
      train_dataset_cfg: the training stream.
      train: `richhf.training.train.train` with its settings bound.
      register_tasks: registers the tasks over their data folder.
      partitioner: where arrays live; None splits batches over all devices.
      train_eval_dataset_cfg: what to measure the losses on during training; None: nothing.
      initial_checkpoint_path: what to start from (not when going on): a run, ours or T5X's, with the same
        vocabulary; or weights of any make for the parts that they cover (`launch.initial_weights`), also
        several: a list, or paths by part.
      num_panels: how many of its images are drawn for TensorBoard at each evaluation, if there
        are true maps.
      expects_pretrained: whether the settings are those of fine-tuning: a run that starts without
        initial_checkpoint_path then prints a warning.
      dry_run: print the plan for these devices (see `launch.dry_run`) instead of training.
    """
    register_task(register_tasks, train_dataset_cfg)
    provider = check_data_fit(model, train_dataset_cfg)
    check_vocabulary(provider, Path(model_dir) / VOCABULARY_FILE)
    check_recorded(AS_TRAINED, Path(model_dir) / CONFIG_FILE)
    check_prompts(Path(model_dir))
    initial = None
    is_new = not has_checkpoints(model_dir)
    if initial_checkpoint_path and is_new:
        vocabularies = find_vocabularies(initial_checkpoint_path)
        for file in vocabularies:
            check_vocabulary(provider, file)
        initial = InitialWeights(initial_checkpoint_path, model)
        if not vocabularies and "t5" not in initial.fresh:
            check_embedding_used(provider, model)
    partitioner = partitioner or Partitioner()
    if train_eval_dataset_cfg:
        check_data_fit(model, train_eval_dataset_cfg)
        partitioner.check_batch_size(train_eval_dataset_cfg.batch_size, setting="EVAL_BATCH_SIZE")
    iterator = train_iterator(train_dataset_cfg, partitioner.share)
    rows = iterator.element_spec["encoder_input_tokens"].shape
    check_rows(model, rows, train_dataset_cfg.mixture_or_task_name)
    has_maps = "heatmaps" in iterator.element_spec
    for given in (train_dataset_cfg, train_eval_dataset_cfg):
        if given and has_maps:
            check_map_size(model, given.task_feature_lengths)
    settings: dict[str, Any] = {"partitioner": partitioner}
    if initial:
        settings |= {
            "initial_checkpoint_path": str(initial.paths[0]),
            "read_initial": lambda _: initial.take(),
        }
    if train_eval_dataset_cfg:
        cfg, share = train_eval_dataset_cfg, partitioner.share
        settings["eval_batches"] = {cfg.split: lambda: counted_batches(cfg, share)}
        if num_panels and has_maps:
            settings["image_panels"] = Panels(model, lambda: next(counted_batches(cfg, share)), num_panels)
    if expects_pretrained and is_new and initial is None and jax.process_index() == 0:
        print(fresh_warning(model), flush=True)
    if dry_run:
        cfgs = train_dataset_cfg, train_eval_dataset_cfg
        return print_plan(model, model_dir, train, iterator, cfgs, settings, dry_run, initial)
    if initial and jax.process_index() == 0:
        print(*initial.lines, sep="\n", flush=True)

    def on_ready():
        config = gin.operative_config_str()
        lengths = train_dataset_cfg.task_feature_lengths
        described = described_model(model, lengths["inputs"], train_dataset_cfg.mixture_or_task_name)
        files = {CONFIG_FILE: config, MODEL_FILE: described}
        for name, text in files.items():
            with atomic_path(Path(model_dir) / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        keep_vocabulary(provider, model_dir)
        return files

    with explained_reading(provider, train_dataset_cfg.split):
        return train(model=model, model_dir=model_dir, train_iterator=iterator, on_ready=on_ready, **settings)


def described_model(model: Any, prompt_length: int, task: str) -> str:
    """What the native format says of a model in training, as JSON; see `richhf.inference.load`."""
    settings = Settings(
        prompt_length,
        bool(macros().get("SEE_PROMPT", True)),
        provenance={"trained_on": task},
        prompt_form=macros().get("PROMPT_FORM", PLAIN),
        task_strings=macros().get("TASK_STRINGS"),
    )
    return json.dumps(describe_model(model, settings), indent=2) + "\n"


def counted_batches(
    cfg: DatasetConfig, share: tuple[int, int]
) -> Iterator[tuple[Mapping[str, np.ndarray], int]]:
    """This host's share of the batches of a split, with their numbers of examples on all, once through."""
    return ((batch.features, batch.examples) for batch in eval_batches(cfg, share))
