"""The inference job: a checkpoint over images that nobody has labelled."""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from launch.checkpoint_source import find_weights, load_weights, recorded_settings, run_folder, step_number
from launch.data_fit import VOCABULARY_FILE, check_lengths
from launch.gin_config import AS_TRAINED, CONFIG_FILE, check_recorded
from launch.peers import check_peers, telling, wait_for_all, wait_until
from richhf.inference.bulk import Bulk
from richhf.inference.encoder import Encoder
from richhf.inference.inputs import Input, describe_inputs
from richhf.inference.listing import find_inputs
from richhf.inference.manifest import check_outside, claim_folder, describe, weights_digest
from richhf.inference.pictures import MAX_PIXELS
from richhf.inference.predictions import KINDS, output_names
from richhf.inference.shards import PARQUET, SUMMARY, ShardWriter
from richhf.inference.vocabulary import Vocabulary
from richhf.models.batch_spec import batch_spec
from richhf.pretrained.native import Settings
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_predict, param_target

NOT_SHARED = "expected OUTPUT_DIR on a drive that all processes share."
SETTLING = 60.0  # seconds until a network drive shows what another process wrote


@telling()
def infer_job(
    *,
    model: Any,
    checkpoint: str,
    source: str,
    output_dir: str,
    task_feature_lengths: Mapping[str, int],
    batch_size: int,
    outputs: Sequence[str] = tuple(KINDS),
    step: int | None = None,
    table: str | None = None,
    id_column: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    vocabulary_file: str | None = None,
    see_prompt: bool = True,
    max_pixels: int = MAX_PIXELS,
    shard_size: int = 1000,
    file_format: str = PARQUET,
    map_formats: Sequence[str] = ("png",),
    strict: bool = False,
    workers: int = 8,
    partitioner: Partitioner | None = None,
) -> dict[str, Any]:
    """Writes feedback on inputs as shards (`richhf.inference.shards`); run again, it writes those missing.

    Of several processes each has the model on its own devices and makes every so-manieth shard.

    Args:
      model: the `RichFeedbackModel` that was trained.
      checkpoint: a run's folder, or one step's.
      source: see `find_inputs`, as are `table` and the columns.
      output_dir: an empty folder, or one that this command began.
      task_feature_lengths: as in training.
      batch_size: images in a batch, of each process.
      outputs: kinds of outputs: `scores`, `heatmaps`, `keywords`; what is not wanted is not computed.
      step: which step of the run; None: the latest.
      table: prompts of the images in a folder.
      id_column: of a table.
      image_column: of a table.
      prompt_column: of a table.
      vocabulary_file: a SentencePiece model; None: the one that training kept beside the checkpoints.
      see_prompt: as in training.
      max_pixels: larger images are not decoded.
      shard_size: inputs of a shard.
      file_format: of the shards' tables, `parquet` or `jsonl`.
      map_formats: of the maps, `png` (8 bits), `npy` (float32) or both.
      strict: stop at the first input that cannot be used.
      workers: threads that decode and write.
      partitioner: how each process's devices share the work; None splits batches over all of them.

    Returns:
      The content of summary.json.
    """
    names = output_names(outputs)
    check_lengths(task_feature_lengths)
    partitioner = dataclasses.replace(partitioner or Partitioner(), devices=jax.local_devices())
    partitioner.check_batch_size(batch_size)
    specs = batch_spec(model.config, task_feature_lengths, batch_size, labels=())
    folder = find_weights(checkpoint, step)
    run_dir = run_folder(folder)
    check_recorded(AS_TRAINED, run_dir / CONFIG_FILE)
    settings = recorded_settings(run_dir) or Settings(task_feature_lengths["inputs"])
    encoder = Encoder(
        read_vocabulary(vocabulary_file, run_dir, model),
        variant=model.config.variant,
        image_size=task_feature_lengths["image"],
        prompt_length=task_feature_lengths["inputs"],
        see_prompt=see_prompt,
        max_pixels=max_pixels,
        prompt_form=settings.prompt_form,
        task_strings=settings.task_strings,
    )
    check_outside(output_dir, source)
    columns = {"id_column": id_column, "image_column": image_column, "prompt_column": prompt_column}
    note = print if jax.process_index() == 0 else None
    inputs = find_inputs(source, table=table, **columns, need_prompts=see_prompt, note=note)
    kinds = tuple(kind for kind in KINDS if kind in outputs)
    writer = ShardWriter(Path(output_dir), len(inputs), shard_size, kinds, file_format, tuple(map_formats))
    target = param_target(model, partitioner, {name: spec.shape for name, spec in specs.items()})
    params = load_weights(folder, target)
    manifest = {
        "inputs": describe_inputs(inputs),
        "settings": {
            **{"outputs": kinds, "shard_size": shard_size, "format": file_format, "map_formats": map_formats},
            **{"prompt_length": task_feature_lengths["inputs"], "see_prompt": see_prompt},
            "max_pixels": max_pixels,
            **{"prompt_form": settings.prompt_form, "task_strings": settings.task_strings},
        },
        "weights": {"step": step_number(folder), "sha256": weights_digest(params)},
        "vocabulary": {"sha256": encoder.vocabulary.digest},
        "model": {"config": describe(model.config), "keyword_length": model.keyword_length},
    }
    primary = jax.process_index() == 0
    if primary:
        claim_folder(output_dir, manifest)
    wait_for_all("claimed")
    if not wait_until(lambda: claim_folder(output_dir, manifest, write=False), seconds=SETTLING):
        raise ValueError(f"{output_dir} is not the first process's: {NOT_SHARED}")

    only = types.SimpleNamespace(predict_batch=functools.partial(model.predict_batch, outputs=names))
    step_fn = compile_predict(only, partitioner, target)

    def predict(features: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return step_fn(params, partitioner.place_whole(features))

    write_own_shards(inputs, writer, encoder, predict, batch_size=batch_size, strict=strict, workers=workers)
    wait_for_all("written")
    if not primary:
        return {}
    if not wait_until(lambda: not writer.missing(), seconds=SETTLING):
        raise ValueError(f"{writer.table(writer.missing()[0])} was written and is not there: {NOT_SHARED}")
    summary = writer.summarise()
    failed = "".join(f"\n  {count:,} {kind}" for kind, count in summary["failed"].items())
    print(f"{summary['done']:,} of {summary['inputs']:,} inputs done{failed and f'; failed:{failed}'}")
    print(writer.folder / SUMMARY, flush=True)
    return summary


def write_own_shards(
    inputs: Sequence[Input],
    writer: ShardWriter,
    encoder: Encoder,
    predict: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]],
    **settings: Any,
) -> None:
    """Writes this process's part of the missing shards; the first process shows how fast it goes."""
    index, count = jax.process_index(), jax.process_count()
    own = range(index, writer.count, count)
    missing = sorted({*own} & {*writer.missing()})
    todo = sum(len(writer.indices(shard)) for shard in missing)
    there = len(own) - len(missing)
    if index == 0:
        done = f"; {there} of {len(own)} shards are there" if there else ""
        part = f", {todo:,} of them here" if todo < len(inputs) else ""
        print(f"{len(inputs):,} inputs{part}{done}", flush=True)
    with tqdm(total=todo, desc="infer", unit=" images", disable=index > 0) as bar:

        def progress(count: int) -> None:
            check_peers()
            bar.update(count)

        Bulk(inputs, writer, encoder, predict, on_progress=progress, **settings).run(missing)


def read_vocabulary(file: str | None, run_dir: Path, model: Any) -> Vocabulary:
    """The vocabulary that a model was trained with.

    Raises:
      ValueError: none is there, or it has more pieces than the model embeds.
    """
    path = Path(file or run_dir / VOCABULARY_FILE)
    if not path.is_file():
        raise ValueError(
            f"there is no vocabulary {path}: training keeps it beside its checkpoints; set "
            "VOCABULARY_FILE to the SentencePiece model that the run was trained with."
        )
    vocabulary, rows = Vocabulary.read(path), model.config.t5.vocab_size
    if vocabulary.size > rows:
        raise ValueError(
            f"the vocabulary {path} has {vocabulary.size} pieces, but the model embeds {rows} "
            "(T5Config.vocab_size): use the vocabulary and the model file that the run was trained with."
        )
    return vocabulary
