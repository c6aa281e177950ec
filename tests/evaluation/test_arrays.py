import inspect

import numpy as np
import pytest

from richhf.data.records import Record
from richhf.evaluation import FeedbackArrays, record_batches, records_to_arrays
from richhf.feedback import HEATMAPS, SCORES


def record(i=0, *, labels=(1, 0, 1), size=(4, 5), prompt="a yellow cat"):
    heatmaps = {name: np.full(size, 51 * (i + 1) + j, np.uint8) for j, name in enumerate(HEATMAPS)}
    scores = {name: (i + j) / 12 for j, name in enumerate(SCORES)}
    return Record(filename=f"test/{i}.png", scores=scores, heatmaps=heatmaps, labels=labels, prompt=prompt)


def test_records_are_stacked_in_the_order_of_the_vocabulary():
    arrays = records_to_arrays([record(0), record(1)])
    np.testing.assert_allclose(arrays.scores[1], np.arange(1, 5) / 12, rtol=1e-6)
    np.testing.assert_allclose(arrays.unit_heatmaps("misalignment")[1], 103 / 255, rtol=1e-6)
    assert arrays.keywords == ["a yellow_0 cat"] * 2
    assert arrays.filenames == ["test/0.png", "test/1.png"]
    assert arrays.keyword_valid.all()
    assert arrays.score_valid.all()
    assert arrays.heatmap_valid.all()


def test_records_whose_labels_do_not_fit_have_no_valid_keywords():
    arrays = records_to_arrays([record(labels=(1, 0)), record(prompt=None), record()])
    assert arrays.keyword_valid.tolist() == [False, False, True]
    assert arrays.keywords == ["a yellow cat", "", "a yellow_0 cat"]


def test_prompts_are_lent_to_records_without_one():
    arrays = records_to_arrays([record(prompt=None), record()], prompts=["a black dog", "unused"])
    assert arrays.keywords == ["a black_0 dog", "a yellow_0 cat"]


def test_record_batches_leave_nothing_out():
    batches = list(record_batches((record(i) for i in range(4)), size=3))
    assert [len(batch) for batch in batches] == [3, 1]
    assert [name for batch in batches for name in batch.filenames] == [f"test/{i}.png" for i in range(4)]


def test_maps_of_two_sizes_and_no_records_are_explained():
    with pytest.raises(ValueError, match=r"one size.*\(4, 5\), \(8, 8\)"):
        records_to_arrays([record(), record(size=(8, 8))])
    with pytest.raises(ValueError, match="No records"):
        records_to_arrays([])


def test_select_takes_rows_of_every_field_in_order():
    arrays = records_to_arrays([record(i) for i in range(3)]).select([2, 0])
    assert arrays.filenames == ["test/2.png", "test/0.png"]
    np.testing.assert_array_equal(arrays.heatmaps[:, 0, 0, 0], [153, 51])
    np.testing.assert_allclose(arrays.scores[:, 0], [2 / 12, 0])


def test_uint8_and_float_maps_mean_the_same():
    arrays = records_to_arrays([record(i) for i in range(3)])
    as_float = FeedbackArrays(
        arrays.scores,
        arrays.heatmaps / np.float32(255),
        arrays.keywords,
        arrays.prompts,
        arrays.filenames,
        arrays.keyword_valid,
    )
    for name in HEATMAPS:
        np.testing.assert_allclose(as_float.unit_heatmaps(name), arrays.unit_heatmaps(name), rtol=1e-6)


def test_fields_that_disagree_are_explained():
    fields = dict(
        scores=np.zeros((2, 4), np.float32),
        heatmaps=np.zeros((2, 2, 3, 3), np.float32),
        keywords=["a", "b"],
        prompts=["a", "b"],
        filenames=["a"],
        keyword_valid=np.ones(2, bool),
    )
    with pytest.raises(ValueError, match=r"different lengths.*'filenames': 1"):
        FeedbackArrays(**fields)
    unchecked = object.__new__(FeedbackArrays)
    wrong = fields | {"filenames": ["a", "b"], "scores": np.zeros((2, 3), np.float32)}
    for name, value in (wrong | {"score_valid": None, "heatmap_valid": None}).items():
        object.__setattr__(unchecked, name, value)
    with pytest.raises(ValueError, match=r"scores \[2, 4\].*got \(2, 3\)"):
        inspect.unwrap(FeedbackArrays.__post_init__)(unchecked)
