"""The `Feedback` value: what is said about one image."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from richhf.feedback.checks import checked_heatmap, checked_score, checked_words, in_order
from richhf.feedback.difference import Difference
from richhf.feedback.drawing import ImageLike, draw_layer, draw_overlay, open_image
from richhf.feedback.files import FEEDBACK_FILE, read_feedback, write_feedback
from richhf.feedback.findings import ARTIFACT, MISALIGNMENT, OUTPUTS_OF, Finding, Rule, evidence_of, judge
from richhf.feedback.names import HEATMAPS, SCORES, VERDICTS, choices
from richhf.feedback.notebook import feedback_html


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Feedback:
    """Feedback on one image: the mean of several annotators, the noiseless truth or a model's prediction.

    Outputs that nobody gave are absent: no key in `scores` or `heatmaps`, an empty `misaligned`.

    Attributes:
      prompt: the text the image was generated from.
      scores: by name (`SCORES`), in [0, 1], higher is better for all four. On the annotators' five-point
        Likert scale the value is `1 + 4 * score`.
      heatmaps: by name (`HEATMAPS`), float32 at the image's size, in [0, 1]: the share of annotators who
        marked a pixel, or the predicted share. Higher is worse.
      words: the prompt's words, in order, without delimiters.
      misaligned: for each word, whether the image does not show what it says.
      image_size: (height, width) of the image; taken from the heatmaps unless given.
      word_confidences: for each word, the probability in [0, 1] that it is misaligned, as a model says it
        (`richhf.inference.confidence`); a word may be flagged at less than a half, and the other way round.
        None for a word that the model did not read or has no room to write.
      keywords_text: the text that a model wrote, the prompt with `_0` after each misaligned word. It need not
        be an exact copy: `misaligned` flags the prompt's own words.
      thresholds: by name, where a single output speaks for a fault: a map if its peak is at the threshold or
        above, a score if it is below.
      rules: how all that was predicted makes a verdict (`richhf.feedback.findings`); without any, the
        threshold of one output decides.
      image: the image itself or its path, to draw on; no part of the value: neither compared nor saved.
      covered: for each word, whether the feedback covers it; empty: all. A model covers neither words beyond
        the length that it reads or writes nor those that its text, a poor copy of the prompt, leaves out, and
        none if it was trained without prompts: they are not flagged, which says nothing of them.

    Raises:
      ValueError: for unknown names, values out of range, maps or flags that do not fit.
    """

    prompt: str
    scores: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    heatmaps: Mapping[str, Float[np.ndarray, "h w"]] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()
    misaligned: tuple[bool, ...] = ()
    image_size: tuple[int, int] = (0, 0)
    word_confidences: tuple[float | None, ...] = ()
    keywords_text: str | None = None
    thresholds: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    image: ImageLike | None = None
    covered: tuple[bool, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __post_init__(self):
        scores = {name: checked_score(name, v) for name, v in in_order(self.scores, SCORES).items()}
        maps = {name: checked_heatmap(name, v) for name, v in in_order(self.heatmaps, HEATMAPS).items()}
        sizes = {name: value.shape for name, value in maps.items()}
        size = self.image_size if any(self.image_size) else next(iter(sizes.values()), (0, 0))
        if min(size) < 1:
            raise ValueError("Feedback without heatmaps needs image_size=(height, width).")
        size = (int(size[0]), int(size[1]))
        for name, shape in sizes.items():
            if shape != size:
                raise ValueError(
                    f"Heatmap {name!r} has size {shape}, the image {size}: resize the map first."
                )
        words = checked_words(self.words, self.misaligned, self.word_confidences, self.covered)
        thresholds = {n: float(v) for n, v in in_order(self.thresholds, (*HEATMAPS, *SCORES)).items()}
        fields = dict(scores=scores, heatmaps=maps, image_size=size, thresholds=thresholds)
        fields["rules"] = tuple(self.rules)
        for field, value in (fields | words).items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        """One line, without the maps' pixels."""
        parts = [repr(self.prompt), *(f"{name}={value:.4f}" for name, value in self.scores.items())]
        parts += [f"{name}: peak {heatmap.max():.3f}" for name, heatmap in self.heatmaps.items()]
        if self.misaligned:
            parts.append(f"misaligned: {' '.join(self.misaligned_words) or 'nothing'}")
        if self.uncovered_words:
            parts.append(f"{len(self.uncovered_words)} of {len(self.words)} words not covered")
        return f"Feedback({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Feedback):
            return NotImplemented
        drawn = "heatmaps", "image"
        names = [field.name for field in dataclasses.fields(self) if field.name not in drawn]
        return (
            all(getattr(self, name) == getattr(other, name) for name in names)
            and self.heatmaps.keys() == other.heatmaps.keys()
            and all(np.array_equal(value, other.heatmaps[name]) for name, value in self.heatmaps.items())
        )

    def replace(self, **changes: Any) -> "Feedback":
        """The same feedback with other values of some fields."""
        return dataclasses.replace(self, **changes)

    @property
    def misaligned_words(self) -> tuple[str, ...]:
        """The words of the prompt that the image does not show."""
        return tuple(word for word, flag in zip(self.words, self.misaligned, strict=False) if flag)

    @property
    def uncovered_words(self) -> tuple[str, ...]:
        """The words of the prompt of which nothing is said, see `covered`."""
        return tuple(word for word, there in zip(self.words, self.covered, strict=False) if not there)

    def likert(self, name: str) -> float:
        """The score `name` on the annotators' scale: 1 (worst) to 5 (best)."""
        return 1.0 + 4.0 * self._get("scores", name)

    @property
    def findings(self) -> dict[str, Finding]:
        """The verdicts by name (`VERDICTS`), each with its probability and reasons.

        A verdict uses all that was predicted of its kind: the map, the score and, of misalignments, the
        words. A verdict is absent where the model is not calibrated for what was predicted. Where a word is
        flagged, `has_misalignment` is True.
        """
        confidences = self.word_confidences if self.misaligned else ()
        evidence = evidence_of(self.heatmaps, self.scores, sum(self.misaligned), confidences)
        found = {
            name: judge(name, evidence, self.misaligned_words, self.rules, self.thresholds)
            for name in VERDICTS
        }
        return {name: finding for name, finding in found.items() if finding is not None}

    @property
    def has_artifact(self) -> bool:
        """Whether something in the image is implausible, see `findings`.

        Raises:
          ValueError: the model is not calibrated for what was predicted.
        """
        return self._finds(ARTIFACT)

    @property
    def has_misalignment(self) -> bool:
        """Whether the image misses or contradicts something in the prompt; otherwise as `has_artifact`."""
        return self._finds(MISALIGNMENT)

    @property
    def verdicts(self) -> dict[str, bool | None]:
        """Both verdicts by name (`VERDICTS`); None where nothing decides."""
        findings = self.findings
        return {name: findings[name].verdict if name in findings else None for name in VERDICTS}

    def heatmap_layer(self, name: str, *, size: tuple[int, int] | None = None) -> Image.Image:
        """The map as a picture to lay over the image: colour and opacity grow with the value.

        Args:
          name: one of `HEATMAPS`.
          size: (height, width) of the picture; the map's own size if absent.

        Returns:
          An RGBA picture, transparent where the map is 0 and opaque where it is 1.
        """
        return draw_layer(self._get("heatmaps", name), name, size)

    def overlay(self, name: str, image: ImageLike | None = None, *, alpha: float = 0.8) -> Image.Image:
        """The map drawn over the image, the image greyed so that the map's colour stands alone.

        Args:
          name: one of `HEATMAPS`.
          image: the picture; the map is resized to it. Absent: the one that the feedback is on, where it is
            known, as it is of a `Predictor`.
          alpha: opacity of the map where it is 1, in [0, 1].

        Returns:
          An RGB picture of the image's size.
        """
        heatmap, image = self._get("heatmaps", name), self.image if image is None else image
        if image is None:
            raise ValueError(
                f"This feedback does not know its image: give it, as in overlay({name!r}, 'image.png')."
            )
        return draw_overlay(heatmap, name, image, alpha)

    def difference(self, truth: "Feedback") -> "Difference":
        """Compares this feedback (a prediction) with `truth`, for the outputs that both have."""
        if self.prompt != truth.prompt or self.image_size != truth.image_size:
            raise ValueError(
                "Only feedback on the same image can be compared, but got prompts "
                f"{self.prompt!r} and {truth.prompt!r}, sizes {self.image_size} and {truth.image_size}."
            )
        pairs = []
        if self.misaligned and truth.misaligned:
            if self.words != truth.words:
                raise ValueError(f"The prompt is split into other words: {self.words} and {truth.words}.")
            pairs = list(zip(self.misaligned, truth.misaligned, strict=True))
        return Difference(
            scores={name: s - truth.scores[name] for name, s in self.scores.items() if name in truth.scores},
            heatmaps={
                name: m - truth.heatmaps[name] for name, m in self.heatmaps.items() if name in truth.heatmaps
            },
            hits=tuple(i for i, pair in enumerate(pairs) if pair == (True, True)),
            misses=tuple(i for i, pair in enumerate(pairs) if pair == (False, True)),
            false_alarms=tuple(i for i, pair in enumerate(pairs) if pair == (True, False)),
        )

    def to_dict(self) -> dict[str, Any]:
        """All but pixels, ready for JSON; of a map its mean, its peak and its area above 0.5.

        `has_artifact` and `has_misalignment` are None where nothing decides them; `findings` has the
        probability and the reasons of each that is decided.
        """
        maps = {
            name: {"mean": float(m.mean()), "max": float(m.max()), "area": float((m > 0.5).mean())}
            for name, m in self.heatmaps.items()
        }
        return {
            "prompt": self.prompt,
            "scores": dict(self.scores),
            "heatmaps": maps,
            "words": list(self.words),
            "misaligned": list(self.misaligned),
            "misaligned_words": list(self.misaligned_words),
            "covered": list(self.covered),
            "uncovered_words": list(self.uncovered_words),
            "image_size": list(self.image_size),
            "word_confidences": list(self.word_confidences),
            "keywords_text": self.keywords_text,
            "thresholds": dict(self.thresholds),
            "rules": [rule.to_dict() for rule in self.rules],
            **self.verdicts,
            "findings": {name: dataclasses.asdict(one) for name, one in self.findings.items()},
        }

    def save(self, directory: str | os.PathLike, *, image: ImageLike | None = None) -> pathlib.Path:
        """Writes `feedback.json`, each map as `NAME.npy` (exact) and `NAME.png`, and overlays.

        Files are written under temporary names and renamed, the JSON file last; files of an earlier save that
        this feedback lacks are removed. The image itself is not saved.

        Args:
          directory: made if need be.
          image: what to draw the overlays on; absent, the image that is known, or else no overlays.

        Returns:
          The path of the JSON file.
        """
        image = self.image if image is None else image
        drawn = () if image is None else self.heatmaps
        overlays = {name: self.overlay(name, image) for name in drawn}
        return write_feedback(directory, self.to_dict(), self.heatmaps, overlays)

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "Feedback":
        """Reads what `save` wrote; the maps come back exactly.

        Raises:
          ValueError: if a file is missing or damaged.
        """
        try:
            return cls(**read_feedback(directory))
        except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
            raise ValueError(
                f"{pathlib.Path(directory)} holds no readable feedback ({type(error).__name__}: {error}). "
                f"Expected a folder with {FEEDBACK_FILE}, written by Feedback.save."
            ) from error

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        try:
            picture = None if self.image is None else open_image(self.image)
        except OSError:  # the file is gone
            picture = None
        drawn = {
            name: self.heatmap_layer(name) if picture is None else self.overlay(name, picture)
            for name in self.heatmaps
        }
        return feedback_html(self.to_dict(), picture, drawn)

    def _finds(self, verdict: str) -> bool:
        finding = self.findings.get(verdict)
        if finding is None:
            predicted = (*self.heatmaps, *self.scores, *(("keywords",) if self.misaligned else ()))
            calibrated = {*self.thresholds, *(name for rule in self.rules for name in rule.outputs)}
            raise ValueError(
                f"Nothing decides {verdict}: it needs one of {', '.join(OUTPUTS_OF[verdict])}, but the "
                f"outputs are {', '.join(predicted) or 'none'}, and the model is calibrated for "
                f"{', '.join(sorted(calibrated)) or 'none'}. Ask for one of these outputs, with a model that "
                "is calibrated for it (launch.export, CALIBRATE_ON)."
            )
        return finding.verdict

    def _get(self, field: str, name: str):
        values = getattr(self, field)
        if name not in values:
            raise ValueError(f"This feedback has no {name!r} in its {field}: {choices(name, tuple(values))}")
        return values[name]
