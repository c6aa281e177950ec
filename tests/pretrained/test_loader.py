"""Strict both ways, everything told at once."""

import dataclasses

import jax
import numpy as np
import pytest

from richhf.pretrained.loader import WeightsError, export_params, flat_shapes, import_params, nest
from richhf.pretrained.rules import Rule, Table
from richhf.pretrained.transforms import CONV, KEEP, TRANSPOSE, Transform

TABLE = Table(
    "a make",
    (
        Rule("h.{i}.w", "block_{i}/kernel", TRANSPOSE),
        Rule("emb", "table"),
        Rule("emb_again", "table"),
        Rule("conv", "conv/kernel", CONV),
    ),
    left_out={r"pool\..*": "nobody reads it"},
    fresh={"extra": "it is new"},
    unused={"seen": (2,)},
    prefix=r"model\.",
)
SHAPES = {"block_0/kernel": (3, 2), "block_1/kernel": (3, 2), "table": (4,), "conv/kernel": (3, 3, 2, 5)}
TARGET = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in SHAPES.items()}


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    shapes = {"h.0.w": (2, 3), "h.1.w": (2, 3), "emb": (4,), "conv": (5, 2, 3, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_each_array_goes_where_its_rule_says(source):
    found = import_params(TABLE, source, TARGET, "x")
    assert found.params.keys() == TARGET.keys()
    assert found.notes == ()
    np.testing.assert_array_equal(found.params["block_1/kernel"], source["h.1.w"].T)
    assert found.params["conv/kernel"][2, 1, 0, 4] == source["conv"][4, 0, 2, 1]


def test_dtypes_become_those_of_the_model(source):
    half = {name: value.astype(jax.numpy.bfloat16) for name, value in source.items()}
    assert {x.dtype.name for x in import_params(TABLE, half, TARGET, "x").params.values()} == {"float32"}
    wanted = {path: jax.ShapeDtypeStruct(leaf.shape, jax.numpy.bfloat16) for path, leaf in TARGET.items()}
    assert {x.dtype.name for x in import_params(TABLE, source, wanted, "x").params.values()} == {"bfloat16"}


def test_all_that_does_not_fit_is_told_together(source):
    del source["h.0.w"], source["emb"]
    source |= {"h.1.w": np.ones((2, 2), np.float32), "h.2.w": np.ones((2, 3)), "conv": np.ones(5, np.int32)}
    with pytest.raises(WeightsError) as error:
        import_params(TABLE, source, TARGET, "weights.npz")
    said = str(error.value)
    for line in (
        "weights.npz (a make) does not fit this model (5 problems: 2 missing, 1 wrong shape, 1 wrong type, "
        "1 not used). Check that the format and the model's sizes are those of the weights.\n",
        "missing: h.0.w (for block_0/kernel (3, 2))",
        "missing: emb or emb_again (for table (4,))",
        "wrong shape: h.1.w (2, 2); block_1/kernel has (3, 2)",
        "not used: h.2.w (2, 3)",
        "wrong type: conv is int32; expected floating-point numbers",
    ):
        assert line in said


def test_a_long_list_is_told_whole():
    many = {f"a{i}": np.ones(1) for i in range(40)}
    with pytest.raises(WeightsError, match=r"\(44 problems: 4 missing, 40 not used\)") as error:
        import_params(TABLE, many, TARGET, "x")
    assert all(name in str(error.value) for name in many)


def test_numbers_that_are_not_finite_are_refused(source):
    source["conv"][0, 0, 0, 0] = np.nan
    source["emb"][1] = np.inf
    with pytest.raises(WeightsError, match=r"2 not finite.*(?s:.*)not finite: emb has NaN or infinite"):
        import_params(TABLE, source, TARGET, "x")
    half = {path: jax.ShapeDtypeStruct(leaf.shape, np.float16) for path, leaf in TARGET.items()}
    source |= {"conv": np.ones((5, 2, 3, 3)), "emb": np.full(4, 1e30)}
    with pytest.raises(WeightsError, match="not finite: emb has NaN or infinite"):
        import_params(TABLE, source, half, "x")


def test_names_of_another_version_are_read_and_not_written(source):
    rules = (*TABLE.rules, Rule("layers.{i}.w", "block_{i}/kernel", TRANSPOSE, written=False))
    table = dataclasses.replace(TABLE, rules=rules)
    source |= {f"layers.{i}.w": source.pop(f"h.{i}.w") for i in range(2)}
    params = import_params(table, source, TARGET, "x").params
    np.testing.assert_array_equal(params["block_1/kernel"], source["layers.1.w"].T)
    assert {"h.0.w", "h.1.w", "layers.0.w"} & {*export_params(table, params, "x")} == {"h.0.w", "h.1.w"}


def test_exceptions_are_explicit_and_told(source):
    source |= {"pool.w": np.ones(1), "seen": np.ones(2)}
    wanted = TARGET | {"extra": jax.ShapeDtypeStruct((1,), np.float32)}
    found = import_params(TABLE, source, wanted, "x")
    assert "extra" not in found.params
    assert set(found.notes) == {
        "pool.w left out: nobody reads it",
        "seen left out: never used",
        "extra starts fresh: it is new",
    }


def test_tied_arrays_must_be_equal(source):
    import_params(TABLE, source | {"emb_again": source["emb"]}, TARGET, "x")
    with pytest.raises(WeightsError, match="not equal: emb and emb_again, which are one array"):
        import_params(TABLE, source | {"emb_again": source["emb"] + 1}, TARGET, "x")


def test_a_prefix_may_be_there_but_not_twice(source):
    prefixed = {f"model.{name}": value for name, value in source.items()}
    np.testing.assert_array_equal(import_params(TABLE, prefixed, TARGET, "x").params["table"], source["emb"])
    with pytest.raises(WeightsError, match=r"has h\.0\.w and model\.h\.0\.w, which would both be h\.0\.w"):
        import_params(TABLE, source | prefixed, TARGET, "x")


def test_the_way_out_is_the_way_back(source):
    params = import_params(TABLE, source, TARGET, "x").params
    state = export_params(TABLE, params, "our parameters")
    assert state.keys() == {*source, "emb_again", "seen"}
    for name, value in source.items():
        np.testing.assert_array_equal(state[name], value)
    assert state["seen"].shape == (2,)
    assert not state["seen"].any()
    with pytest.raises(WeightsError, match=r"cannot be written as a make(?s:.*)no place for: odd"):
        export_params(TABLE, params | {"odd": np.ones(2)}, "our parameters")
    one_way = Table("b", (Rule("emb", "table", Transform("in only", KEEP.inward)),))
    with pytest.raises(WeightsError, match=r"no way out: table \(in only\)"):
        export_params(one_way, {"table": np.ones(2)}, "our parameters")


def test_layers_are_taken_one_by_one_and_stacked_like_the_model():
    one = {"block_0": {"kernel": np.ones((3, 2))}, "block_1": {"kernel": np.zeros((3, 2))}}
    stacked = {"vit": {"blocks": {"kernel": np.stack([np.ones((3, 2)), np.zeros((3, 2))])}}}
    assert flat_shapes(stacked).keys() == flat_shapes({"vit": one}).keys()
    flat = {"vit/block_0/kernel": np.ones((3, 2)), "vit/block_1/kernel": np.zeros((3, 2))}
    np.testing.assert_array_equal(
        nest(flat, stacked)["vit"]["blocks"]["kernel"], stacked["vit"]["blocks"]["kernel"]
    )
    assert nest(flat, {"vit": one})["vit"].keys() == one.keys()
