"""Checkpoints whose files are damaged: found, set aside, and the one before is used."""

import json
import shutil
import sys
import types
import warnings

import jax
import numpy as np
import pytest

from richhf.training.checkpoints import Checkpoints, MismatchError
from richhf.training.damage import is_damage, one_line
from richhf.training.digests import DIGESTS_FILE, DamagedError
from richhf.training.optimizers import adamw
from richhf.training.partitioning import Partitioner
from richhf.training.programs import initializer
from richhf.training.saved_params import restore_params
from richhf.training.train import train
from richhf.training.unfinished import ignore_unfinished, is_unfinished

ONE = Partitioner(num_devices=1)
SET_ASIDE = "the checkpoint of step 5 is damaged, set aside as "
# Written when the digests are there already; nothing is read from them.
UNUSED = ("_CHECKPOINT_METADATA", "commit_success.txt")


@pytest.fixture
def continue_run(tmp_path, toy_model, counting_iterator):
    """Trains a run, or resumes it."""

    def call(name="run", steps=6):
        return train(
            model=toy_model(),
            train_iterator=counting_iterator(),
            model_dir=tmp_path / name,
            optimizer=adamw(0.01),
            total_steps=steps,
            checkpoint_period=3,
            log_period=2,
            ema_decay=0.5,
            partitioner=ONE,
        )

    return call


@pytest.fixture
def target(toy_model, counting_iterator):
    spec = counting_iterator().element_spec
    shapes, types = ({name: getattr(s, field) for name, s in spec.items()} for field in ("shape", "dtype"))
    return initializer(toy_model(), adamw(0.01), ONE, shapes, types, 0.5)[1]


@pytest.fixture
def restore(tmp_path, target, counting_iterator):
    """Restores a copy of the run with damage in its step 5; returns state, position and warnings."""

    def call(damage, source="run"):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / source / "checkpoints", copy / "checkpoints")
        damage(copy / "checkpoints/5")
        iterator = counting_iterator()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Checkpoints(copy) as checkpoints:
                state = checkpoints.restore(target, iterator)
        return state, iterator.position, [str(warning.message) for warning in caught]

    return call


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def harms(size, thorough):
    """Contents that a file of some size may have afterwards, by name; None: the file is missing."""
    yield "missing", lambda data: None
    lengths = {0, 1, size // 2, size - 1} if thorough else {size // 2}
    offsets = {0, size // 3, size // 2, size - 1} if thorough else {size - 1}
    for length in sorted(lengths & set(range(size))):
        yield f"cut to {length}", lambda data, length=length: data[:length]
    for offset in sorted(offsets):
        flipped = slice(offset, offset + 1)
        yield (
            f"flipped at {offset}",
            lambda data, at=flipped: data[: at.start] + bytes([data[at][0] ^ 1]) + data[at.stop :],
        )


def harm(path, change):
    data = change(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_any_damage_of_any_file_is_found_or_does_no_harm(continue_run, restore, tmp_path):
    """Either the checkpoint is as it was, or the one before is taken with one warning of one line."""
    continue_run(steps=5)
    sound = {step: restore(lambda folder: None)[0] for step in (5,)}
    folder = tmp_path / "run/checkpoints/5"
    sound[3], position, _ = restore(shutil.rmtree)
    assert (int(sound[5].step), int(sound[3].step), position) == (5, 3, 3)
    files = files_of(folder)
    largest = max(files, key=lambda file: (folder / file).stat().st_size)
    thorough = {
        largest,
        *(file for file in files if len(file.parts) == 1 or file.parts[0] in ("run", "iterator")),
    }
    thorough |= {file for file in files if file.parts[0] == "params" and len(file.parts) == 2}
    tried = 0
    for file in files:
        for name, change in harms((folder / file).stat().st_size, file in thorough):
            case = f"{file} {name}"
            state, position, messages = restore(lambda copy: harm(copy / file, change))  # noqa: B023
            step = int(state.step)
            assert position == step, case
            assert same(state, sound[step]), case
            assert not any("\n" in message for message in messages), case
            if file.parts[0] == "metrics":
                assert step == 5, case
                gone = file.name == "metrics" and name == "missing"
                assert [message[:32] for message in messages] == ["the metrics of step 5 are damage"] * (
                    not gone
                ), case
            elif str(file) in UNUSED or (str(file), name) == (DIGESTS_FILE, "missing"):
                assert (step, messages) == (5, []), case
            elif str(file) != DIGESTS_FILE or step == 3:
                assert step == 3, case
                assert [SET_ASIDE in message for message in messages] == [True], case
            tried += 1
    assert tried > 3 * len(files) > 100


@pytest.mark.parametrize("folder", ["params", "ema_params", "opt_state", "iterator", "run", "."])
def test_missing_folder_is_damage(continue_run, restore, folder):
    continue_run(steps=5)
    state, _, messages = restore(lambda copy: shutil.rmtree(copy / folder))
    assert int(state.step) == 3
    assert [SET_ASIDE in message for message in messages] == [True] * (folder != ".")


@pytest.mark.parametrize("change", [lambda data: data[:100], lambda data: b"", lambda data: None])
def test_damaged_data_without_digests_is_set_aside(continue_run, restore, capfd, change):
    """Checkpoints of older versions: Orbax wraps the error of the reader in a bare Exception."""
    continue_run(steps=5)

    def damage(copy):
        (copy / DIGESTS_FILE).unlink()
        data = max(copy.glob("params/ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)
        harm(data, change)

    capfd.readouterr()
    state, _, (message,) = restore(damage)
    assert int(state.step) == 3
    assert message.startswith(SET_ASIDE)
    assert "\n" not in message
    assert "Traceback" not in capfd.readouterr().err


def test_damaged_run_resumes_to_the_same_end(continue_run, tmp_path):
    whole = continue_run("whole")
    continue_run("hurt", steps=5)
    data = max((tmp_path / "hurt/checkpoints/5").rglob("d/*"), key=lambda path: path.stat().st_size)
    harm(data, lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.warns(UserWarning, match="step 5 is damaged") as caught:
        resumed = continue_run("hurt")
    assert len(caught) == 1
    assert same(whole, resumed)
    assert (tmp_path / "hurt/checkpoints/damaged-5").is_dir()


def test_all_damaged_is_one_line(continue_run, tmp_path):
    continue_run(steps=5)
    for step in (3, 5):
        (tmp_path / f"run/checkpoints/{step}/params/manifest.ocdbt").unlink()
    with pytest.raises(
        DamagedError, match=r"\[5, 3\]\); step 3: params/manifest.ocdbt is missing. Move"
    ) as e:
        continue_run()
    assert "\n" not in str(e.value)
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"3", "5"}


def test_whole_files_are_not_damaged_whatever_reading_them_raises(
    continue_run, tmp_path, target, counting_iterator
):
    continue_run(steps=5)
    iterator = counting_iterator()

    def restore(filename):
        raise KeyError("a name that another version of this program wrote")

    iterator.restore = restore
    with Checkpoints(tmp_path / "run") as checkpoints, pytest.raises(KeyError):
        checkpoints.restore(target, iterator)
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"3", "5"}


def test_prediction_from_a_damaged_checkpoint_is_a_one_line_error(continue_run, tmp_path):
    continue_run(steps=5)
    (tmp_path / "run/checkpoints/5/ema_params/_METADATA").write_text("")
    expected = r"step 5 in .* is damaged: ema_params/_METADATA differs .*Use another step \(there are 3\)"
    for checkpoint in ("run", "run/checkpoints/5"):
        with pytest.raises(DamagedError, match=expected) as error:
            restore_params(tmp_path / checkpoint)
        assert "\n" not in str(error.value)
    restore_params(tmp_path / "run", 3)
    restore_params(tmp_path / "run", 5, ema=False)
    shutil.rmtree(tmp_path / "run/checkpoints/5/ema_params")
    with pytest.raises(DamagedError, match="is missing"):
        restore_params(tmp_path / "run")


def test_digests_are_of_all_files_of_the_items(continue_run, tmp_path):
    continue_run(steps=3)
    folder = tmp_path / "run/checkpoints/3"
    digests = json.loads((folder / DIGESTS_FILE).read_text())["sha256"]
    assert set(digests) == {str(file) for file in files_of(folder) if len(file.parts) > 1}


def wrapped(cause, outer=None):
    """An error as Orbax raises it."""
    try:
        raise (outer or Exception("Encountered error while reading array index")) from cause
    except Exception as error:
        return error


def in_context(cause, outer):
    try:
        try:
            raise cause
        except Exception:
            raise outer  # noqa: B904
    except Exception as error:
        return error


CUT = ValueError("OUT_OF_RANGE: Requested byte range [0, 3827) is not valid for value of size 100")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUT, True),
        (FileNotFoundError(2, "No such file"), True),
        (KeyError("param_name"), True),
        (ValueError("FAILED_PRECONDITION: Error reading zarr metadata"), True),
        (wrapped(CUT), True),
        (wrapped(wrapped(CUT)), True),
        (in_context(CUT, Exception("outer")), True),
        (ExceptionGroup("reads", [CUT, wrapped(CUT)]), True),
        (wrapped(ExceptionGroup("reads", [CUT])), True),
        (Exception("of nothing that is known"), False),
        (ValueError("PERMISSION_DENIED: Error opening zarr driver"), False),
        (wrapped(ValueError("PERMISSION_DENIED: Error reading [OS error 13: EACCES]")), False),
        (wrapped(ValueError("UNKNOWN: Error reading file [OS error 5: EIO Input/output error]")), False),
        (ValueError("NOT_FOUND: Error reading file [OS error 2: ENOENT No such file]"), True),
        (wrapped(ValueError("RESOURCE_EXHAUSTED: Out of memory")), False),
        (wrapped(MemoryError()), False),
        (wrapped(PermissionError(13, "Permission denied")), False),
        (wrapped(OSError(5, "Input/output error"), ValueError("cannot read")), False),
        (wrapped(MismatchError("another model")), False),
        (MismatchError("another model"), False),
        (ExceptionGroup("reads", [CUT, PermissionError(13, "Permission denied")]), False),
        (ExceptionGroup("reads", [CUT, TypeError("argument")]), False),
        (in_context(KeyError("a cache"), TypeError("argument")), False),
        (in_context(KeyError("a cache"), AttributeError("no attribute")), False),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
    ],
)
def test_damage_is_judged_by_all_causes(error, expected):
    assert is_damage(error) is expected


def test_message_of_a_wrapped_error_is_one_line():
    assert one_line(wrapped(ValueError("DATA_LOSS:\n  a\n b"))) == "DATA_LOSS: a b"
    assert len(one_line(ValueError("x" * 1000))) < 310


def test_only_unfinished_reads_and_writes_are_kept_back(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    ignore_unfinished()
    ignore_unfinished()
    closed = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"), object=None)
    other = types.SimpleNamespace(exc_value=RuntimeError("another"), object=None)
    sys.unraisablehook(closed)
    sys.unraisablehook(other)
    assert shown == [other]

    async def own():
        return None

    coroutine = own()
    assert not is_unfinished(ValueError("own"), coroutine)
    coroutine.close()
