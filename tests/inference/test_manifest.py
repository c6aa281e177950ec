import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from richhf.inference.manifest import check_writable, claim_folder, describe, weights_digest

MADE = {"inputs": {"count": 3}, "settings": {"outputs": ("scores",), "names": {"é": None}}}


def test_the_same_job_goes_on(tmp_path):
    folder = tmp_path / "out"
    assert not claim_folder(folder, MADE, write=False)
    assert not folder.exists()
    for write in (True, True, False):
        assert claim_folder(folder, MADE, write=write)


def test_another_job_is_told_what_differs(tmp_path):
    claim_folder(tmp_path, MADE)
    other = {"inputs": {"count": 4}, "settings": {"outputs": ("scores", "keywords"), "shard_size": 7}}
    with pytest.raises(ValueError, match="made from something else") as caught:
        claim_folder(tmp_path, other, write=False)
    assert str(caught.value).splitlines()[1:] == [
        "  inputs: images or prompts were added, removed or changed since; there 3, now 4",
        '  settings.outputs: there ["scores"], now ["scores", "keywords"]',
        "  settings.shard_size: there nothing, now 7",
        "  settings.names.é: there null, now nothing",
        "Run the command that began it to go on, or take a new OUTPUT_DIR.",
    ]


def test_other_inputs_are_told_without_checksums(tmp_path):
    inputs = {"count": 3, "fingerprint": "0a1b", "last_change": "2026-01-01T00:00:00+00:00"}
    claim_folder(tmp_path, MADE | {"inputs": inputs})
    changed = inputs | {"fingerprint": "2c3d", "last_change": "2026-02-03T04:05:06+00:00"}
    with pytest.raises(ValueError, match="made from other inputs") as caught:
        claim_folder(tmp_path, MADE | {"inputs": changed})
    assert str(caught.value).endswith(
        "images or prompts were added, removed or changed since (the latest at 2026-02-03T04:05:06+00:00). "
        "Its shards are numbered by input and serve one list of inputs only. "
        "Take another OUTPUT_DIR, or an empty one."
    )


def test_a_job_that_takes_any_inputs_is_told_of_its_settings_alone(tmp_path):
    claim_folder(tmp_path, MADE)
    with pytest.raises(ValueError, match="something else") as caught:
        claim_folder(tmp_path, {"format": 2, "settings": MADE["settings"]})
    assert str(caught.value).splitlines()[1:-1] == ["  format: there nothing, now 2"]


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"holds 'thesis\.tex' and no manifest\.json"):
        claim_folder(tmp_path, MADE)
    with pytest.raises(ValueError, match=r"cannot be written to: .*thesis\.tex is a file\. Give"):
        claim_folder(tmp_path / "thesis.tex", MADE)
    for text, why in (("{", "Expecting"), ("[1]", "it holds a list, expected settings by name")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=f"cannot be read .*{why}"):
            claim_folder(tmp_path, MADE)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/proc/x", "No such file or directory"),
        ("/sys/x/y", "not permitted|Permission denied|Read-only"),
        ("{}/file/out", "file is a file"),
        ("{}/" + "x" * 300, "File name too long"),
        ("{}/\0", "null"),
    ],
)
def test_a_folder_that_cannot_be_written_to(tmp_path, name, why):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"OUTPUT_DIR, .*, cannot be written to: .*({why}).* Give a folder"):
        check_writable(name.format(tmp_path))


def test_configurations_are_described_by_name():
    @dataclasses.dataclass
    class Inner:
        width: int
        dtype: object

    @dataclasses.dataclass
    class Outer:
        inner: Inner
        sizes: tuple

    found = describe(Outer(Inner(3, jnp.float32), (1, None)))
    assert found["inner"]["width"] == 3
    assert "float32" in found["inner"]["dtype"]
    assert found["sizes"] == [1, None]


def test_weights_of_another_value_shape_or_name_have_another_digest():
    params = {"a": jnp.arange(6.0), "b": np.float32(1)}
    others = [
        params | {"a": jnp.arange(6.0).reshape(2, 3)},
        params | {"b": np.float32(2)},
        {"a": params["a"]},
    ]
    others.append({"c": params["a"], "b": params["b"]})
    assert weights_digest(params) == weights_digest({"b": np.float32(1), "a": np.arange(6, dtype=np.float32)})
    assert len({weights_digest(one) for one in (params, *others)}) == 5
