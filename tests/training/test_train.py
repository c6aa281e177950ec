import functools
import json
import os
import resource
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from richhf.training.checkpoints import Checkpoints, MismatchError
from richhf.training.example_log import read_examples
from richhf.training.interruption import Interrupted
from richhf.training.optimizers import adafactor, adamw, muon
from richhf.training.partitioning import Partitioner
from richhf.training.programs import compile_step, initializer
from richhf.training.run_log import read_log
from richhf.training.saved_params import find_checkpoint, restore_params, steps_in
from richhf.training.train import train
from richhf.training.train_state import TrainState

ONE = Partitioner(num_devices=1)


@pytest.fixture
def run(tmp_path, toy_model, counting_iterator):
    def call(name="run", *, steps=6, iterator=None, noise=True, **settings):
        settings = {
            "optimizer": adamw(0.01),
            "log_period": 2,
            "checkpoint_period": 3,
            "partitioner": ONE,
        } | settings
        return train(
            model=toy_model(noise),
            train_iterator=iterator or counting_iterator(),
            model_dir=tmp_path / name,
            total_steps=steps,
            **settings,
        )

    return call


def wait_for(path):
    """What is written in the background is there when this returns."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_learns_and_logs(run, tmp_path, counting_iterator):
    batches = counting_iterator(seed=1)
    evaluation = [next(batches), next(batches)]
    odd = {name: x[:5] for name, x in evaluation[0].items()}
    sizes = [(evaluation[0], 16), (evaluation[1], 16), (odd, 5)]
    run(steps=40, eval_batches={"dev": lambda: sizes}, eval_period=20, partitioner=Partitioner(num_devices=2))
    lines = read_log(tmp_path / "run")
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == list(range(2, 41, 2))
    assert training[-1]["loss"] < 0.6 * training[0]["loss"]
    for line in training:
        assert line["loss"] == pytest.approx(line["squared"] + 0.1 * line["absolute"], rel=1e-5)
        assert {"learning_rate", "grad_norm", "images_per_second", "seconds"} <= line.keys()
    evaluated = [line for line in lines if "eval/dev/squared" in line]
    assert [line["step"] for line in evaluated] == [20, 40]
    assert evaluated[1]["eval/dev/squared"] < evaluated[0]["eval/dev/squared"]
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_stopped_and_resumed_run_is_bitwise_the_uninterrupted_one(
    run, tmp_path, counting_iterator, ema_decay
):
    whole = run("whole", steps=8, ema_decay=ema_decay)
    iterator = counting_iterator()
    iterator.before_next = lambda position: os.kill(os.getpid(), signal.SIGTERM) if position == 4 else None
    with pytest.raises(Interrupted) as stopped:
        run("parts", steps=8, iterator=iterator, ema_decay=ema_decay)
    assert (stopped.value.code, stopped.value.step) == (128 + signal.SIGTERM, 5)
    resumed = run("parts", steps=8, ema_decay=ema_decay)
    assert_identical(whole, resumed)
    assert iterator.position == 5
    assert [line["step"] for line in read_log(tmp_path / "parts")] == [2, 4, 6, 8]


def test_killed_run_goes_on_from_its_last_checkpoint(run, tmp_path, counting_iterator):
    whole = run("whole", steps=8)

    def kill(position):
        if position == 5:
            raise KeyboardInterrupt

    iterator = counting_iterator()
    iterator.before_next = kill
    with pytest.raises(KeyboardInterrupt):
        run("killed", steps=8, iterator=iterator)
    assert [line["step"] for line in read_log(tmp_path / "killed")] == [2, 4]
    with (tmp_path / "killed" / "train_log.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    resumed = run("killed", steps=8)
    assert_identical(whole, resumed)
    assert [line["step"] for line in read_log(tmp_path / "killed")] == [2, 4, 6, 8]


@pytest.mark.parametrize("steps", [6, 4])
def test_finished_run_is_not_trained_again(run, tmp_path, counting_iterator, capsys, caplog, steps):
    first = run()
    log = (tmp_path / "run/train_log.jsonl").read_text()
    capsys.readouterr()
    iterator = counting_iterator()
    iterator.before_next = lambda position: pytest.fail("took a batch")
    with jax.log_compiles():
        again = run(steps=steps, iterator=iterator, on_ready=lambda: pytest.fail("no step to be ready for"))
    assert_identical(first, again)
    assert f"run: already at step 6 of {steps}; raise TRAIN_STEPS to go on\n" in capsys.readouterr().err
    assert not any("train_step" in record.getMessage() for record in caplog.records)
    assert (tmp_path / "run/train_log.jsonl").read_text() == log


def test_keeps_the_last_checkpoints_and_a_final_one(run, tmp_path):
    run(steps=7, checkpoint_period=2, keep_checkpoints=2)
    assert Checkpoints(tmp_path / "run", keep=2).steps == [6, 7]
    for step in (6, 7):
        position = tmp_path / f"run/checkpoints/{step}/iterator/position.json"
        assert json.loads(position.read_text()) == step


@pytest.fixture
def steps_on(toy_model, counting_iterator):
    """The state after some steps, without loop and checkpoints."""
    return functools.partial(take_steps, toy_model, counting_iterator)


def take_steps(
    toy_model, counting_iterator, partitioner, *, noise=True, num_microbatches=1, steps=5, optimizer=None,
    ema_decay=0.0, seed=0,
):  # fmt: skip
    model, iterator, optimizer = toy_model(noise), counting_iterator(), optimizer or adamw(0.01)
    spec = iterator.element_spec
    shapes, types = ({name: getattr(s, field) for name, s in spec.items()} for field in ("shape", "dtype"))
    init, target = initializer(model, optimizer, partitioner, shapes, types, ema_decay)
    state = init(jax.random.key(seed), None)
    step = compile_step(model, optimizer, partitioner, target, num_microbatches, ema_decay)
    for _ in range(steps):
        state, _ = step(state, partitioner.shard_batch(next(iterator)), jax.random.key(1))
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, target)
    return state


@pytest.mark.parametrize(
    ("partitioner", "num_microbatches"),
    [
        (Partitioner(data=8), 1),
        (Partitioner(data=1, fsdp=8), 1),
        (Partitioner(data=2, model=4), 1),
        (Partitioner(data=2, fsdp=2, model=2), 1),
        (ONE, 2),
        (Partitioner(data=2, fsdp=2, num_devices=4), 4),
    ],
    ids=["data", "fsdp", "data-model", "all", "microbatches", "all-microbatches"],
)
def test_meshes_and_microbatches_agree_with_one_device(steps_on, partitioner, num_microbatches):
    expected = steps_on(ONE, noise=False)
    found = steps_on(partitioner, noise=False, num_microbatches=num_microbatches)
    for a, b in zip(leaves(expected.params), leaves(found.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_muon_on_split_matrices_agrees_with_one_device(steps_on):
    expected, found = (
        steps_on(partitioner, noise=False, optimizer=muon(0.01, rms=1.0, weight_decay=0.05))
        for partitioner in (ONE, Partitioner(data=2, fsdp=2, model=2))
    )
    for a, b in zip(leaves(expected.params), leaves(found.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_dropout_does_not_depend_on_the_mesh(steps_on):
    one, many = (steps_on(partitioner).params for partitioner in (ONE, Partitioner(fsdp=2)))
    other = steps_on(ONE, seed=1).params
    for a, b, c in zip(leaves(one), leaves(many), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
        assert not np.allclose(a, c, atol=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (adamw(0.01), [((16, 64), (8, 32))] * 2),
        (adafactor(0.01, min_dim_size_to_factor=8), [((16,), (8,)), ((64,), (32,))]),
        (muon(0.01), [((16, 64), (8, 32))]),
    ],
    ids=["adamw", "adafactor", "muon"],
)
def test_state_is_sharded_as_the_rules_say(steps_on, optimizer, expected):
    partitioner = Partitioner(data=2, fsdp=2, model=2)
    state = steps_on(partitioner, steps=1, optimizer=optimizer, ema_decay=0.5)
    kernel = state.params["wi"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (8, 32)
    assert state.params["wi"]["bias"].sharding.shard_shape((64,)) == (32,)
    assert state.ema_params["wi"]["kernel"].sharding == kernel.sharding
    mirrors = [
        (x.shape, x.sharding.shard_shape(x.shape))
        for path, x in jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
        if "wi" in str(path) and "kernel" in str(path) and x.size > 1
    ]
    assert sorted(mirrors) == expected


def test_next_loss_is_the_same_on_another_mesh(run, tmp_path):
    """With Adafactor's factored state, from one device to eight that split data and parameters both ways."""
    settings = {"noise": False, "log_period": 1, "optimizer": adafactor(0.01, min_dim_size_to_factor=8)}
    run("whole", steps=3, **settings)
    run("moved", steps=2, **settings)
    state = run("moved", steps=3, partitioner=Partitioner(data=2, fsdp=2, model=2), **settings)
    assert state.params["wi"]["kernel"].sharding.shard_shape((16, 64)) == (8, 32)
    whole, moved = (read_log(tmp_path / name)[2] for name in ("whole", "moved"))
    for name in ("loss", "squared", "absolute", "grad_norm"):
        assert moved[name] == pytest.approx(whole[name], rel=1e-5), name


def test_resumes_on_another_mesh(run):
    whole = run("whole", steps=4, noise=False)
    run("moved", steps=2, noise=False, partitioner=Partitioner(fsdp=2, num_devices=2))
    moved = run("moved", steps=4, noise=False, partitioner=Partitioner(num_devices=4))
    for a, b in zip(leaves(whole.params), leaves(moved.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_one_compilation(run, caplog):
    with jax.log_compiles():
        run(steps=4, partitioner=Partitioner(fsdp=2, num_devices=2), ema_decay=0.9)
    compiled = [record.getMessage() for record in caplog.records]
    assert sum(m.startswith("Finished XLA compilation of") and "train_step" in m for m in compiled) == 1


def test_steps_that_are_not_finite_change_nothing_and_are_told_of(run, tmp_path, counting_iterator, capsys):
    """Also over an interruption: the counts are in the checkpoint."""

    def iterator():
        return counting_iterator(poison={1, 2, 4, 5, 6})

    settings = {"log_period": 1, "checkpoint_period": 2, "ema_decay": 0.5, "max_nonfinite_steps": 4}
    whole = run("whole", steps=8, iterator=iterator(), **settings)
    told = [line for line in capsys.readouterr().err.splitlines() if "is skipped" in line]
    assert told == [
        f"step {step} is skipped, not finite: absolute (nan), squared (nan) ({in_row} in a row, 4 end the "
        f"run; {in_all} in all)"
        for step, in_row, in_all in ((2, 1, 1), (3, 2, 2), (5, 1, 3), (6, 2, 4), (7, 3, 5))
    ]
    assert [int(x) for x in (whole.step, whole.skipped_steps, whole.skipped_in_row)] == [8, 5, 0]
    lines = read_log(tmp_path / "whole")
    assert [line["skipped_steps"] for line in lines] == [0, 1, 2, 2, 3, 4, 5, 5]
    assert [line["step"] for line in lines if "loss" in line] == [1, 4, 8]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    run("parts", steps=6, iterator=iterator(), **settings)
    found = find_checkpoint(tmp_path / "parts", 6) / "run/counters.json"
    assert json.loads(found.read_text()) == {"skipped_steps": 4, "skipped_in_row": 2}
    assert_identical(whole, run("parts", steps=8, iterator=iterator(), **settings))
    before, after = (restore_params(tmp_path / "parts", step, ema=False) for step in (4, 6))
    assert_identical(before, after)


def test_means_are_of_the_applied_steps(run, tmp_path, counting_iterator):
    run("single", steps=3, log_period=1, iterator=counting_iterator(poison={1}))
    run("mean", steps=3, log_period=3, iterator=counting_iterator(poison={1}))
    losses = [line["loss"] for line in read_log(tmp_path / "single") if "loss" in line]
    (line,) = read_log(tmp_path / "mean")
    assert len(losses) == 2
    assert line["loss"] == pytest.approx(np.mean(losses))
    assert line["skipped_steps"] == 1


def test_too_many_steps_that_are_not_finite_end_the_run(run, tmp_path, counting_iterator):
    """With the step, its examples and the terms; a run that goes on from before ends at the same."""
    poison = {4, 5, 6}
    run("parts", steps=5, iterator=counting_iterator(poison=poison))
    for name in ("whole", "parts"):
        with pytest.raises(
            FloatingPointError, match=r"at step 7: absolute \(nan\), squared \(nan\)"
        ) as ended:
            run(name, steps=9, iterator=counting_iterator(poison=poison), max_nonfinite_steps=3)
        assert ", ".join(f"6-{row}" for row in range(16)) in str(ended.value)
    assert Checkpoints(tmp_path / "whole").steps == [3, 6]


def test_the_best_checkpoints_stay_besides_the_latest(run, tmp_path):
    """Also where a run goes on: what they are best by is read again."""

    def evaluation(truths):
        x = np.zeros((16, 16), np.float32)
        return {"dev": lambda: [({"x": x, "y": np.full((16, 8), next(truths), np.float32)}, 16)]}

    settings = {"keep_checkpoints": 1, "checkpoint_period": 1, "eval_period": 1, "keep_best": 2}
    for name, mode, expected in (("less", "min", [2, 5, 6]), ("more", "max", [1, 4, 6])):
        best = {"best_metric": "eval/dev/squared", "best_mode": mode}
        for steps, truths in ((3, [0, 9.0, 1.0, 5.0]), (6, [0, 7.0, 2.0, 6.0])):
            run(name, steps=steps, eval_batches=evaluation(iter(truths)), **settings, **best)
        assert Checkpoints(tmp_path / name, keep=9).steps == expected
    with pytest.raises(ValueError, match=r"Did you mean 'eval/dev/squared'.* It gives eval/dev/squared"):
        run("none", eval_batches=evaluation(iter([0])), best_metric="eval/dev/squard", **settings)
    with pytest.raises(ValueError, match="CHECKPOINT_PERIOD is 3 and EVAL_PERIOD 2: make it a multiple"):
        run("none", eval_batches=evaluation(iter([0])), keep_best=1, eval_period=2)
    with pytest.raises(ValueError, match="with nothing to evaluate on"):
        run("none", keep_best=1, eval_period=3)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_metrics_cost_no_checkpoint(run, tmp_path, content):
    x = np.zeros((16, 16), np.float32)
    settings = {"eval_batches": {"dev": lambda: [({"x": x, "y": x[:, :8]}, 16)]}, "eval_period": 1}
    settings |= {"keep_best": 1, "best_metric": "eval/dev/squared", "checkpoint_period": 1}
    whole = run("whole", steps=4, **settings)
    run("hurt", steps=3, **settings)
    files = list((tmp_path / "hurt/checkpoints").glob("*/metrics/metrics"))
    assert len(files) == 3
    for file in files:
        file.write_text(content)
    with pytest.warns(UserWarning, match=r"the metrics of step \d are damaged"):
        assert_identical(whole, run("hurt", steps=4, **settings))
    assert {line["step"] for line in read_log(tmp_path / "hurt")} == {1, 2, 3, 4}


def test_a_save_is_of_its_step_while_training_goes_on(tmp_path, counting_iterator):
    """State is donated and the input moves on before the files are there."""
    place = Partitioner(num_devices=1).replicated
    params = {"w": jax.device_put(np.random.default_rng(0).normal(size=(1 << 23,)).astype(np.float32), place)}
    state = TrainState.create(params, adamw(0.1))
    expected, iterator = jax.device_get(state), counting_iterator()
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state, expected = step(state), jax.tree.map(lambda x: x + 1, expected)
    next(iterator)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(state, iterator, files={"config.gin": "A = 1"})
    next(iterator)
    state = jax.block_until_ready(step(state))
    assert steps_in(tmp_path / "checkpoints") == []
    checkpoints.close()
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), expected)
    assert_identical(expected, Checkpoints(tmp_path).restore(target, iterator))
    assert iterator.position == 1
    assert (tmp_path / "checkpoints/1/run/config.gin").read_text() == "A = 1"


def test_each_checkpoint_has_the_files_of_its_stretch(run, tmp_path):
    for steps, text in ((3, "A = 1"), (6, "A = 2")):
        run(steps=steps, on_ready=lambda text=text: {"config.gin": text})
    found = [(tmp_path / f"run/checkpoints/{step}/run/config.gin").read_text() for step in (3, 6)]
    assert found == ["A = 1", "A = 2"]


def test_which_examples_each_step_took(run, tmp_path, counting_iterator):
    """As the log of training is, it is cut back to where a run goes on from."""
    run("whole", steps=6, log_examples=True)

    def kill(position):
        if position == 5:
            raise KeyboardInterrupt

    iterator = counting_iterator()
    iterator.before_next = kill
    with pytest.raises(KeyboardInterrupt):
        run("killed", iterator=iterator, log_examples=True)
    log = tmp_path / "killed/examples-0.jsonl"
    assert list(read_examples(tmp_path / "killed")) == [1, 2, 3, 4, 5]
    with log.open("a") as file:
        file.write('{"step": 6, "exam')
    log.with_name("examples-1.jsonl").write_text(
        '{"step": 3, "examples": []}\n{"step": 4, "examples": ["z"]}\n'
    )
    run("killed", log_examples=True)
    assert read_examples(tmp_path / "killed") == read_examples(tmp_path / "whole")
    assert read_examples(tmp_path / "whole")[2] == sorted(f"1-{row}" for row in range(16))
    iterator = counting_iterator()
    del iterator.filenames
    with pytest.raises(ValueError, match="does not say which examples"):
        run(iterator=iterator, log_examples=True)


def test_damaged_checkpoint_is_set_aside(run, tmp_path):
    whole = run("whole", steps=6)
    run("hurt", steps=5)
    for file in (tmp_path / "hurt/checkpoints/5/params").rglob("*"):
        if file.is_file() and "d/" in str(file):
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="step 5 is damaged"):
        resumed = run("hurt", steps=6)
    assert_identical(whole, resumed)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(24, "Too many open files"),
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        TypeError("restore() got an unexpected keyword argument"),
        AttributeError("no attribute 'tree'"),
    ],
    ids=["permission", "files", "memory", "device", "arguments", "attribute"],
)
def test_an_error_that_is_no_damage_leaves_the_checkpoint(run, tmp_path, counting_iterator, error):
    run(steps=5)
    iterator = counting_iterator()

    def restore(filename):
        raise error

    iterator.restore = restore
    with pytest.raises(type(error)) as raised:
        run(iterator=iterator)
    assert raised.value is error
    assert Checkpoints(tmp_path / "run").steps == [3, 5]


def test_another_input_is_no_damage(run, tmp_path, counting_iterator):
    run(steps=5)
    iterator = counting_iterator()

    def restore(filename):
        raise ValueError("other files")

    iterator.restore = restore
    with pytest.raises(MismatchError, match="other files"):
        run(steps=6, iterator=iterator)
    assert Checkpoints(tmp_path / "run").steps == [3, 5]


def test_checkpoint_without_input_position_is_damaged(run, tmp_path):
    whole = run("whole")
    run("hurt", steps=5)
    (tmp_path / "hurt/checkpoints/5/iterator/position.json").unlink()
    with pytest.warns(UserWarning, match="step 5 is damaged"):
        assert_identical(whole, run("hurt"))


def test_checkpoints_of_before_there_were_counters_are_read(run, tmp_path):
    whole = run("whole")
    run("old", steps=3)
    for name in ("run", "metrics"):
        shutil.rmtree(tmp_path / "old/checkpoints/3" / name)
    (tmp_path / "old/checkpoints/3/digests.json").unlink()
    assert_identical(whole, run("old"))


def test_full_disk_leaves_the_earlier_checkpoints(run, tmp_path, counting_iterator):
    whole = run("whole", steps=6, log_period=100)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    iterator = counting_iterator()

    def fill_disk(position):
        if position == 5:
            wait_for(tmp_path / "full/checkpoints/3")
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited[1]))

    iterator.before_next = fill_disk
    try:
        with pytest.raises(
            OSError, match=r"(?s)step 6 could not be written.*intact: \[3\].*same command again"
        ):
            run("full", steps=8, log_period=100, iterator=iterator, checkpoint_period=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    # In a copy: threads of the failed save may write in the folder as long as this process lives.
    unfinished = shutil.ignore_patterns("*orbax-checkpoint-tmp*")
    shutil.copytree(tmp_path / "full", tmp_path / "again", ignore=unfinished)
    assert Checkpoints(tmp_path / "again").steps == [3]
    assert_identical(whole, run("again", steps=6, log_period=100))


def test_checkpoint_of_another_model_is_refused(run, tmp_path, toy_model, counting_iterator):
    run(steps=1)
    iterator = counting_iterator()
    other = toy_model()
    other.network = type(other.network)(name="other")
    init = other.get_initial_variables
    other.get_initial_variables = lambda *a: {"params": {"tower": init(*a)["params"]}}
    with pytest.raises(
        ValueError, match=r"(?s)missing there: tower/wi/kernel \(16, 64\).*not in the model: wi/kernel"
    ):
        train(
            model=other,
            train_iterator=iterator,
            model_dir=tmp_path / "run",
            optimizer=adamw(0.01),
            total_steps=2,
            partitioner=ONE,
        )


def test_starts_from_another_run(run, tmp_path):
    first = run("first", steps=3, ema_decay=0.5)
    second = run("second", steps=1, optimizer=adamw(0.0), initial_checkpoint_path=str(tmp_path / "first"))
    assert_identical(first.ema_params, second.params)
    assert_identical(jax.device_get(first.ema_params), restore_params(tmp_path / "first"))
    assert_identical(
        jax.device_get(first.params), restore_params(tmp_path / "first/checkpoints", 3, ema=False)
    )
    with pytest.raises(ValueError, match=r"checkpoint of step 9.*found steps \[3\]"):
        restore_params(tmp_path / "first", 9)
    (tmp_path / "first/checkpoints/3").rename(tmp_path / "best")
    with pytest.raises(ValueError, match=r"no checkpoint in .*best: found steps none"):
        restore_params(tmp_path / "best")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partitioner": Partitioner(data=8), "num_microbatches": 3}, "multiple of 24, such as 24"),
        ({"partitioner": Partitioner(data=3)}, "does not fit 8"),
        (
            {"partitioner": Partitioner(rules=(("embeds", "fsdp"), ("mlp", None)))},
            "'embed'.*Did you mean 'embeds'",
        ),
        ({"ema_decay": 1.5}, r"ema_decay must be in \[0, 1\), got 1.5"),
        ({"checkpoint_period": 0}, r"\(CHECKPOINT_PERIOD\) must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work(run, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_image_panels_reach_tensorboard(run, tmp_path):
    steps = []

    def panels(params, step):
        assert params["wi"]["kernel"].is_fully_replicated
        steps.append(step)
        return {"panel": np.full((1, 4, 4, 3), 0.5, np.float32)}

    run(steps=4, eval_period=2, image_panels=panels, partitioner=Partitioner(fsdp=2, num_devices=2))
    assert steps == [2, 4]
    assert any(b"panel" in path.read_bytes() for path in (tmp_path / "run").glob("events*"))
