import ast
import re

import numpy as np
import pytest
import seqio
import tensorflow as tf

from richhf.data.features import RichFeedbackFeatureConverter

LENGTHS = {"image": 1, "heatmaps": 2, "inputs": 5, "targets": 4}


def worked_example() -> tuple[dict, dict]:
    """The two dictionaries of the converter's docstring."""
    blocks = re.findall(
        r"^ {8}\{\n.*?^ {8}\}", RichFeedbackFeatureConverter.__doc__, re.DOTALL | re.MULTILINE
    )
    before, after = (ast.literal_eval(block.strip()) for block in blocks)
    return before, after


def as_dataset(example: dict, **changes) -> tf.data.Dataset:
    """One example as a data set; lengths of tokens unknown, as they are after preprocessing."""
    specs = RichFeedbackFeatureConverter.TASK_FEATURES
    arrays = {
        name: np.array(value, specs[name].dtype.as_numpy_dtype if name in specs else None)
        for name, value in {**example, **changes}.items()
    }
    free = {"inputs": [1, None], "targets": [None], "word_labels": [None], "shown_tokens": [None]}
    signature = {
        name: tf.TensorSpec(free.get(name, array.shape), array.dtype) for name, array in arrays.items()
    }
    return tf.data.Dataset.from_generator(lambda: iter([arrays]), output_signature=signature)


def test_worked_example():
    before, after = worked_example()
    converted = RichFeedbackFeatureConverter()(as_dataset(before), LENGTHS)
    (result,) = converted.as_numpy_iterator()
    assert result.keys() == after.keys() == RichFeedbackFeatureConverter.MODEL_FEATURES.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(result[name], value, err_msg=name)
        assert result[name].dtype == RichFeedbackFeatureConverter.MODEL_FEATURES[name].dtype.as_numpy_dtype
        assert converted.element_spec[name].shape.is_fully_defined(), name


def test_maps_have_the_side_of_the_image_unless_another_is_given():
    before, _ = worked_example()
    lengths = {name: LENGTHS[name] for name in ("image", "inputs", "targets")}
    converted = RichFeedbackFeatureConverter()(as_dataset(before, heatmaps=np.zeros((2, 1, 1))), lengths)
    assert converted.element_spec["heatmaps"].shape == (2, 1, 1)
    with pytest.raises(ValueError, match=r"\[2,1,1\] and \[2,2,2\]|\(2, 2, 2\).*\(2, 1, 1\)"):
        RichFeedbackFeatureConverter()(as_dataset(before), lengths)


def test_empty_targets_train_nothing():
    before, _ = worked_example()
    (result,) = RichFeedbackFeatureConverter()(as_dataset(before, targets=[]), LENGTHS).as_numpy_iterator()
    assert not result["decoder_loss_weights"].any()
    assert not result["decoder_input_tokens"].any()


def test_unlabelled_kinds_are_left_out():
    before, _ = worked_example()
    captions = {name: before[name] for name in ("image", "inputs", "targets")}
    (result,) = RichFeedbackFeatureConverter()(as_dataset(captions), LENGTHS).as_numpy_iterator()
    decoder = {"decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"}
    assert result.keys() == {"image", "encoder_input_tokens", *decoder}


def test_passthrough_features_stay():
    before, _ = worked_example()
    spec = {"filename": seqio.FeatureConverter.FeatureSpec(tf.string, rank=0)}
    converter = RichFeedbackFeatureConverter(passthrough_features=spec)
    (result,) = converter(as_dataset(before, filename=b"a.png"), LENGTHS).as_numpy_iterator()
    assert result["filename"] == b"a.png"


def test_half_a_label_is_an_error():
    before, _ = worked_example()
    before["score_weight"] = before.pop("score_weights")
    message = r"lacks the task features \['score_weights'\].*'score_weight' is near"
    with pytest.raises(ValueError, match=message):
        RichFeedbackFeatureConverter()(as_dataset(before), LENGTHS)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"image": 1, "inputs": 5}, r"missing \['targets'\], unknown \[\]"),
        ({"image": 1, "input": 5, "targets": 4}, r"missing \['inputs'\].*'inputs' is near 'input'"),
        ({**LENGTHS, "outputs": 3}, r"unknown \['outputs'\]"),
    ],
)
def test_wrong_lengths_are_named(lengths, message):
    before, _ = worked_example()
    with pytest.raises(ValueError, match=message):
        RichFeedbackFeatureConverter()(as_dataset(before), lengths)


def test_a_longer_row_than_declared_is_an_error():
    before, _ = worked_example()
    converted = RichFeedbackFeatureConverter()(as_dataset(before), {**LENGTHS, "inputs": 3})
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature inputs is longer than the 3 tokens"):
        list(converted.as_numpy_iterator())


def test_packing_is_refused():
    with pytest.raises(ValueError, match="never packed"):
        RichFeedbackFeatureConverter(pack=True)
