"""Prediction beside PyTorch: the author's architecture, the same weights, the same image, in one run.

python -m tests.benchmarks.speed [--model large384_augmented_prompt] [--repeats 5] [--parts ViT ...]

Needs the extra `parity`. Both compute in float32 on the CPU, one image at a time and in turns, all parts in
each round, so that whatever else the machine does meets them all. The weights are random; both decode
`--keyword-length` tokens, none of them the end. What they predict is compared before it is timed. Prints one
row a part: median seconds of each and their ratio.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

import gin
from launch import configurables, gin_config
from richhf.feedback import HEATMAPS, KEYWORDS, OUTPUTS, SCORES
from richhf.inference.computation import Computation, heatmap_options
from richhf.models import RAHF, RAHFConfig, RichFeedbackModel, ScoreHead
from richhf.models.rahf import Memory, make_heatmap_head
from tests.parity.test_rahf import Pair, make_batch, make_pair

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ("large384_multi_head", "large384_augmented_prompt")
NEVER = -1
"""No token ends the text: every part decodes all of its length."""
PROMPT_TOKENS = 64
TOLERANCE = 1e-3

Run = Callable[[], object]


def read_config(name: str) -> RAHFConfig:
    """A shipped model in float32, its layers one by one."""
    files = (f"gin/models/{name}.gin", "gin/data/richhf18k.gin", "gin/runs/eval.gin")
    flags = [f"--gin_file={ROOT / file}" for file in files]
    flags += [f"--gin_search_paths={ROOT}", "--gin.MODEL_DIR=x"]
    gin_config.load(gin_config.parse_flags(flags), configurables.PARAMETERS)
    config = configurables.CONFIGURABLES["models.RichFeedbackModel"]().config
    gin.clear_config()
    return dataclasses.replace(config, dtype="float32", scan_layers=False)


def make_parts(pair: Pair, keyword_length: int) -> dict[str, tuple[Run, Run]]:
    """For each part, ours and PyTorch's, compiled and compared."""
    computation = Computation(RichFeedbackModel(pair.config, keyword_length=keyword_length, eos_id=NEVER))
    model = computation.model
    config, params, theirs = model.config, jax.device_put(pair.params), pair.theirs
    shared = config.variant != "multi_head"
    image, tokens, _ = make_batch(config, (PROMPT_TOKENS,))
    image, tokens = jnp.asarray(image), jnp.asarray(tokens)
    pixels = torch.from_numpy(np.asarray(image)).permute(0, 3, 1, 2).float() / 127.5 - 1
    rows = torch.from_numpy(np.asarray(tokens)).long()
    row = OUTPUTS.index(KEYWORDS) if shared else 0

    def network(method: Callable, *inputs: object) -> Run:
        compiled = jax.jit(
            lambda params, *inputs: RAHF(config).apply({"params": params}, *inputs, method=method)
        )
        return lambda: compiled(params, *inputs)

    def predict(outputs: tuple[str, ...]) -> Run:
        batch = {"image": image, "encoder_input_tokens": tokens}
        names = ("heatmaps", "scores", "keyword_tokens")

        def run() -> list[jax.Array]:
            found, _ = computation.predict(params, batch, outputs=outputs)
            return [found[name] for name in names if name in found]

        return run

    def predict_theirs(outputs: tuple[str, ...]) -> Run:
        def run() -> list[Tensor]:
            length = {"keyword_length": keyword_length, "min_keyword_length": keyword_length}
            found = theirs(pixels, rows, outputs=outputs, **length)
            kinds = [[found[name] for name in kind if name in found] for kind in (HEATMAPS, SCORES)]
            values = [torch.sigmoid(torch.stack(kind, 1)) for kind in kinds if kind]
            return [*values, *(found[name] for name in ("keyword_tokens",) if name in found)]

        return run

    with torch.no_grad():
        seen = theirs.vit(pixels)
        maps, text, mask = theirs.encode(theirs.visual_token_projection(seen), rows[:, row])
    our_seen, our_text, our_mask = (jnp.asarray(np.asarray(x)) for x in (seen, text, mask))
    features = jnp.asarray(np.asarray(maps.permute(0, 2, 3, 1)))
    kept = our_seen if config.encode_class_token else our_seen[:, 1:]
    heads = {
        "heatmap head": (make_heatmap_head(config), "heatmap_head"),
        "score head": (ScoreHead(config.score_head), "score_head"),
    }

    def head(part: str) -> tuple[Run, Run]:
        module, name = heads[part]
        one = HEATMAPS[0] if part == "heatmap head" else SCORES[0]
        own = params[name] if shared else params[f"{name}s_{one}"]
        options = heatmap_options() if part == "heatmap head" else None
        compiled = jax.jit(lambda params, x: module.apply({"params": params}, x), compiler_options=options)
        predictor = getattr(theirs, f"{part.split()[0]}_predictor")
        predictor = predictor if shared else predictor[one]
        return lambda: compiled(own, features), lambda: predictor(maps)

    decode = jax.jit(lambda params, memory: model._decode(params, memory, keyword_length, 1)[0])
    return {
        "ViT": (
            network(
                lambda net, image: net.vit(image / 127.5 - 1, keep_class_token=config.encode_class_token),
                image,
            ),
            lambda: theirs.vit(pixels)[:, 0 if config.encode_class_token else 1 :],
        ),
        "T5 encoder, one row": (
            network(
                lambda net, seen, tokens: net._encode(seen, tokens, (KEYWORDS,), False)[1][:, 0], kept, tokens
            ),
            lambda: theirs.encode(theirs.visual_token_projection(seen), rows[:, row])[1],
        ),
        "heatmap head, one of two": head("heatmap head"),
        "score head, one of four": head("score head"),
        f"decoding {keyword_length} tokens": (
            lambda: decode(params, Memory(our_text, our_mask)),
            lambda: theirs.generate(text, mask, keyword_length, min_length=keyword_length),
        ),
        "all outputs": (predict(OUTPUTS), predict_theirs(OUTPUTS)),
        "scores only": (predict(SCORES), predict_theirs(SCORES)),
    }


def compare(ours: Run, theirs: Run) -> float:
    """The largest difference between what both compute, over all arrays."""
    pairs = zip(jax.tree.leaves(ours()), jax.tree.leaves(theirs()), strict=True)
    return max(float(np.abs(np.asarray(x, np.float64) - np.asarray(y)).max()) for x, y in pairs)


def seconds(run: Run) -> float:
    """How long it takes once."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.speed", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keyword-length", type=int, default=24)
    parser.add_argument("--parts", nargs="+", help="some of the rows; all by default")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    parts = make_parts(make_pair(options.model, read_config(options.model)), options.keyword_length)
    parts = {name: runs for name, runs in parts.items() if not options.parts or name in options.parts}
    with torch.inference_mode():
        differences = {name: compare(*runs) for name, runs in parts.items()}
        for name, difference in differences.items():
            if difference > TOLERANCE:
                sys.exit(f"{name}: they differ by {difference:.1e}, more than {TOLERANCE:.0e}.")
        rounds = [
            {name: [seconds(run) for run in runs] for name, runs in parts.items()}
            for _ in range(options.repeats)
        ]
    print(f"{options.model}, float32, one image, {cores} cores, medians of {options.repeats} rounds (s)\n")
    print("| part | richhf | PyTorch | ratio | largest difference |\n|---|--:|--:|--:|--:|")
    medians = {}
    for name, difference in differences.items():
        columns = zip(*(times[name] for times in rounds), strict=True)
        a, b = medians[name] = [statistics.median(column) for column in columns]
        print(f"| {name} | {a:.3f} | {b:.3f} | {a / b:.2f} | {difference:.1e} |")
    if {"all outputs", "scores only"} <= medians.keys():
        share = medians["scores only"][0] / medians["all outputs"][1]
        print(f"\nscores only take {share:.2f} of what PyTorch takes for all outputs")


if __name__ == "__main__":
    main()
