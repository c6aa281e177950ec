"""From task features to model features: the SeqIO feature converter of rich feedback."""

import copy
import difflib
from collections.abc import Mapping

import seqio
import tensorflow as tf

from richhf import feedback

_Spec = seqio.FeatureConverter.FeatureSpec

LENGTHS = ("image", "inputs", "targets")
"""What TASK_FEATURE_LENGTHS names: side of the image in pixels, tokens of a prompt row and of the target."""
MAP_LENGTH = "heatmaps"
"""What it may name beside them: the side of the true maps in pixels; that of the image if it does not."""

_LABELS = {
    "heatmaps": ("heatmaps", "heatmap_weights"),
    "scores": ("scores", "score_weights"),
    "targets": ("targets",),
    "word_labels": ("word_labels",),
    "shown_tokens": ("shown_tokens",),
}
_DECODER = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")
_MODEL_NAMES = {"inputs": ("encoder_input_tokens",), "targets": _DECODER}


class RichFeedbackFeatureConverter(seqio.FeatureConverter):
    """Pads the task features of one image to static shapes and derives the decoder's features.

    | task feature | model feature | |
    |---|---|---|
    | `image` uint8 [h h 3] | the same | |
    | `inputs` int32 [t <=l] | `encoder_input_tokens` int32 [t l] | padded with 0 |
    | `heatmaps` uint8 [2 m m] | the same | |
    | `heatmap_weights` f32 [2] | the same | |
    | `scores` f32 [4] | the same | |
    | `score_weights` f32 [4] | the same | |
    | `targets` int32 [<=k] | `decoder_target_tokens` int32 [k] | padded with 0 |
    | | `decoder_input_tokens` int32 [k] | the targets shifted right, 0 first |
    | | `decoder_loss_weights` f32 [k] | 1 on target tokens, 0 on padding |
    | `word_labels` int32 [<=l] | the same, [l] | padded with -1 |
    | `shown_tokens` int32 [<=l] | the same, [l] | padded with 0 |

    Lengths are `{"image": h, "heatmaps": m, "inputs": l, "targets": k}`; maps have the image's side where
    `heatmaps` is not given. Lengths of further task features may be given (as `seqio.Evaluator` does) and say
    nothing new. A data set without one kind of label (`heatmaps` or `scores`
    with their weights, `targets`, `word_labels`, `shown_tokens`), as captions are, gives batches without it,
    and its head is not run. Examples are never packed: one is one image.

    Worked example (an image of one pixel, maps of four), with lengths `{"image": 1, "heatmaps": 2,
    "inputs": 5, "targets": 4}`:

        {
            "image": [[[255, 0, 0]]],
            "inputs": [[7, 8, 5, 1]],
            "heatmaps": [[[255, 85], [0, 0]], [[0, 0], [0, 0]]],
            "heatmap_weights": [1, 0],
            "scores": [0.25, 1, 0, 0.5],
            "score_weights": [1, 0, 1, 0],
            "targets": [8, 5, 1],
            "word_labels": [0, 1, 1, -1],
            "shown_tokens": [7],
        }

    becomes

        {
            "image": [[[255, 0, 0]]],
            "encoder_input_tokens": [[7, 8, 5, 1, 0]],
            "heatmaps": [[[255, 85], [0, 0]], [[0, 0], [0, 0]]],
            "heatmap_weights": [1, 0],
            "scores": [0.25, 1, 0, 0.5],
            "score_weights": [1, 0, 1, 0],
            "decoder_target_tokens": [8, 5, 1, 0],
            "decoder_input_tokens": [0, 8, 5, 1],
            "decoder_loss_weights": [1, 1, 1, 0],
            "word_labels": [0, 1, 1, -1, -1],
            "shown_tokens": [7, 0, 0, 0, 0],
        }
    """

    TASK_FEATURES = {  # noqa: RUF012 (declared so by the base class)
        "image": _Spec(tf.uint8, rank=3),
        "inputs": _Spec(tf.int32, rank=2, sequence_dim=1),
        "heatmaps": _Spec(tf.uint8, rank=3, sequence_dim=1),
        "heatmap_weights": _Spec(tf.float32),
        "scores": _Spec(tf.float32),
        "score_weights": _Spec(tf.float32),
        "targets": _Spec(tf.int32),
        "word_labels": _Spec(tf.int32),
        "shown_tokens": _Spec(tf.int32),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        "image": _Spec(tf.uint8, rank=3),
        "encoder_input_tokens": _Spec(tf.int32, rank=2, sequence_dim=1),
        "heatmaps": _Spec(tf.uint8, rank=3, sequence_dim=1),
        "heatmap_weights": _Spec(tf.float32),
        "scores": _Spec(tf.float32),
        "score_weights": _Spec(tf.float32),
        "decoder_input_tokens": _Spec(tf.int32),
        "decoder_target_tokens": _Spec(tf.int32),
        "decoder_loss_weights": _Spec(tf.float32),
        "word_labels": _Spec(tf.int32),
        "shown_tokens": _Spec(tf.int32),
    }
    PACKING_FEATURE_DTYPES = None

    def __init__(self, pack: bool = False, **kwargs):
        """A converter; `passthrough_features` may name further (string or scalar) features to keep.

        Raises:
          ValueError: if asked to pack.
        """
        if pack:
            raise ValueError("Rich feedback is never packed: one example is one image. Set pack to False.")
        # Padding checks the lengths; the base class would do it again, in two more passes over every example.
        super().__init__(pack=False, **{"apply_length_check": False, **kwargs})

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        """Converts a data set.

        Args:
          ds: task features, unbatched.
          task_feature_lengths: `image`, `inputs` and `targets`, and perhaps `heatmaps`.

        Returns:
          Model features, static shapes.

        Raises:
          ValueError: for a length that is missing or of no task feature, a task feature that is missing, of
            another dtype or rank.
        """
        present = self._present(ds.element_spec)
        # The checks of the base class read the declared features from the instance: declare those present.
        narrow = copy.copy(self)
        narrow.TASK_FEATURES = {name: self.TASK_FEATURES[name] for name in present}
        model_names = [name for task_name in present for name in _MODEL_NAMES.get(task_name, (task_name,))]
        narrow.MODEL_FEATURES = {name: self.MODEL_FEATURES[name] for name in model_names}
        lengths = self._all_lengths(task_feature_lengths)
        names = (*present, *self._passthrough_features)
        return super(RichFeedbackFeatureConverter, narrow).__call__(ds, {n: lengths[n] for n in names})

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """Lengths of the model features, along the dimension that the base class checks."""
        lengths: dict[str, int] = {}
        for name, length in task_feature_lengths.items():
            lengths |= dict.fromkeys(_MODEL_NAMES.get(name, (name,)), length)
        return lengths

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        side = task_feature_lengths["image"]

        def convert(example):
            features = {name: example[name] for name in (*self.TASK_FEATURES, *self._passthrough_features)}
            features["image"] = tf.ensure_shape(features["image"], [side, side, 3])
            tokens = features.pop("inputs")
            features["encoder_input_tokens"] = _pad("inputs", tokens, task_feature_lengths["inputs"])
            if "heatmaps" in features:
                shape = [len(feedback.HEATMAPS), *[task_feature_lengths[MAP_LENGTH]] * 2]
                features["heatmaps"] = tf.ensure_shape(features["heatmaps"], shape)
            for name, fill in (("word_labels", -1), ("shown_tokens", 0)):
                if name in features:
                    features[name] = _pad(name, features[name], task_feature_lengths["inputs"], fill=fill)
            if "targets" in features:
                targets = _pad("targets", features.pop("targets"), task_feature_lengths["targets"])
                features["decoder_target_tokens"] = targets
                features["decoder_input_tokens"] = seqio.autoregressive_inputs(targets, bos_id=self.bos_id)
                features["decoder_loss_weights"] = seqio.non_padding_position(targets, tf.float32)
            return features

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)

    def _present(self, spec: Mapping[str, tf.TensorSpec]) -> tuple[str, ...]:
        """The task features that a data set has, after a check that none is half there."""
        wanted = ["image", "inputs"]
        for names in _LABELS.values():
            wanted += names if any(name in spec for name in names) else ()
        missing = [name for name in wanted if name not in spec]
        if missing:
            others = [name for name in spec if name not in self.TASK_FEATURES]
            raise ValueError(
                f"The data set lacks the task features {missing}; it has {sorted(spec)}, and the model takes "
                f"{sorted(self.TASK_FEATURES)}.{_hint(missing, others)}"
            )
        return tuple(name for name in self.TASK_FEATURES if name in wanted)

    def _all_lengths(self, given: Mapping[str, int]) -> dict[str, int]:
        """Lengths of all task features, from those of `LENGTHS` and the maps'."""
        known = {*self.TASK_FEATURES, *self._passthrough_features}
        missing, extra = [n for n in LENGTHS if n not in given], [n for n in given if n not in known]
        if missing or extra:
            raise ValueError(
                f"TASK_FEATURE_LENGTHS names {sorted(given)}, expected {list(LENGTHS)} and perhaps "
                f"{MAP_LENGTH!r}: missing {missing}, unknown {extra}.{_hint(extra, [*LENGTHS, MAP_LENGTH])}"
            )
        lengths = {name: int(given[name]) for name in LENGTHS}
        lengths[MAP_LENGTH] = map_side(given)
        lengths |= dict.fromkeys(("word_labels", "shown_tokens"), lengths["inputs"])
        lengths |= dict.fromkeys(("scores", "score_weights"), len(feedback.SCORES))
        lengths["heatmap_weights"] = len(feedback.HEATMAPS)
        return dict.fromkeys(self._passthrough_features, 1) | lengths


def map_side(lengths: Mapping[str, int]) -> int:
    """The side of the true maps in pixels, by TASK_FEATURE_LENGTHS."""
    return int(lengths.get(MAP_LENGTH, lengths["image"]))


def _pad(name: str, tokens: tf.Tensor, length: int, *, fill: int = 0) -> tf.Tensor:
    """Pads the last axis to a length; the axes before it keep their static size."""
    leading = tokens.shape.rank - 1
    missing = length - tf.shape(tokens)[-1]
    message = f"Feature {name} is longer than the {length} tokens that TASK_FEATURE_LENGTHS gives it."
    with tf.control_dependencies([tf.debugging.assert_non_negative(missing, message=message)]):
        missing = tf.identity(missing)
    padded = tf.pad(tokens, [[0, 0]] * leading + [[0, missing]], constant_values=fill)
    padded.set_shape([*tokens.shape[:-1], length])
    return padded


def _hint(names: list[str], candidates: list[str]) -> str:
    near = {name: difflib.get_close_matches(name, candidates, n=1) for name in names}
    hints = [f"{found[0]!r} is near {name!r}" for name, found in near.items() if found]
    return f" Note: {', '.join(hints)}." if hints else ""
