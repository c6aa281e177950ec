"""One example of the synthetic set: picture, prompt, its noiseless truth and the annotated record.

The example `(seed, split, index)` depends on nothing else, so examples can be made in any order by anybody.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from richhf.data.consolidation import RADIUS, Annotation, consolidate, heatmap_to_uint8
from richhf.data.records import Record, encode_png
from richhf.data.synthetic.annotators import (
    CAREFUL,
    SPACING,
    Annotator,
    annotate,
    annotator_pool,
    place_points,
    region_of,
    true_map,
)
from richhf.data.synthetic.artifacts import Artifact, sample_artifacts
from richhf.data.synthetic.grammar import sample_mentions, write_prompt
from richhf.data.synthetic.misalign import Description, describe
from richhf.data.synthetic.render import Drawing, render
from richhf.data.synthetic.scene import Scene, sample_scene
from richhf.data.synthetic.truth import true_scores
from richhf.feedback import SPLITS

VISIBLE = 18  # difference in any channel of 255 that counts as changed
FEWEST_CHANGED = 0.004  # share of the image that an artifact changes at least
CORNER = 0.17
ANNOTATORS = 3
PEOPLE_STREAM = len(SPLITS)


@dataclass(frozen=True)
class Sample:
    """One example with everything that is known of it.

    Attributes:
      record: what the annotators' marks were consolidated to, with image and prompt.
      truth: the noiseless record; maps are means over careful annotators, labels exact, scores continuous.
      scene: what is shown.
      artifacts: what was damaged.
      description: what is said of it, and what of that is wrong.
      annotations: the marks that `record` was made of.
      regions: by heatmap name, the masks of the truly faulty pixels, one for each fault with a place.
    """

    record: Record
    truth: Record
    scene: Scene
    artifacts: tuple[Artifact, ...]
    description: Description
    annotations: tuple[Annotation, ...]
    regions: dict[str, list[Bool[np.ndarray, "h w"]]] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """What the data set's statistics need, as JSON."""
        return {
            "filename": self.record.filename,
            "prompt": self.record.prompt,
            "faults": {
                "artifacts": [artifact.kind for artifact in self.artifacts],
                "misalignments": [fault.kind for fault in self.description.faults],
            },
            "misaligned": [int(label == 0) for label in self.truth.labels],
            "likert": {name: [a.likert[name] for a in self.annotations] for name in self.truth.scores},
        }


def pool(seed: int) -> tuple[Annotator, ...]:
    """The annotators of the data set of a seed."""
    return annotator_pool(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PEOPLE_STREAM,))))


def make_sample(seed: int, split: str, index: int, *, size: int, people: tuple[Annotator, ...]) -> Sample:
    """Makes one example.

    Args:
      seed: the data set's seed.
      split: a name of `SPLITS`.
      index: its number in the split.
      size: side of the image in pixels.
      people: `pool(seed)`.
    """
    streams = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index)).spawn(3)
    scenes, damage, marks = (np.random.default_rng(stream) for stream in streams)
    scene = sample_scene(scenes)
    mentions = sample_mentions(scenes, scene)
    description = describe(scenes, scene, mentions)
    prompt = write_prompt(scenes, description.scene, description.mentions)
    faithful, drawing, artifacts, changed = draw(damage, scene, size)

    false = description.false_claims
    misaligned = tuple(claim in false for claim in prompt.claims)
    scores = true_scores(scene, description, prompt, artifacts, [float(mask.mean()) for mask in changed])
    masks = {"implausibility": changed, "misalignment": misaligned_masks(description, faithful)}
    regions = {
        "implausibility": [
            region_of(marks, mask, 0.84 + 0.12 * artifact.severity)
            for artifact, mask in zip(artifacts, changed, strict=True)
        ],
        "misalignment": [region_of(marks, mask, 0.9) for mask in masks["misalignment"]],
    }
    # The first of those who place points are the annotators, who then slip; the others are careful.
    placed = {
        name: [
            place_points(marks, region, ANNOTATORS + CAREFUL, SPACING[name] * RADIUS * size)
            for region in regions[name]
        ]
        for name in regions
    }
    annotations = annotate(
        marks,
        tuple(people[index] for index in marks.choice(len(people), ANNOTATORS, replace=False)),
        regions=regions,
        placed={name: [points[:ANNOTATORS] for points in placed[name]] for name in placed},
        vague=[np.array([f.place.x, f.place.y]) * size for f in description.faults if f.place is not None],
        objects=np.array([(item.x * size, item.y * size) for _, item in scene.items]),
        prompt=prompt.text,
        misaligned=misaligned,
        scores=scores,
        size=size,
    )
    filename = f"{split}/{index:06d}.png"
    record = consolidate(annotations, size=(size, size)).to_record(
        filename, image=encode_png(drawing.image), prompt=prompt.text
    )
    truth = Record(
        filename=filename,
        scores=scores,
        heatmaps={
            name: heatmap_to_uint8(true_map([points[ANNOTATORS:] for points in placed[name]], size))
            for name in placed
        },
        labels=tuple(int(not flag) for flag in misaligned),
        prompt=prompt.text,
    )
    return Sample(record, truth, scene, artifacts, description, tuple(annotations), masks)


def draw(
    rng: np.random.Generator, scene: Scene, size: int
) -> tuple[Drawing, Drawing, tuple[Artifact, ...], list[Bool[np.ndarray, "h w"]]]:
    """Draws a scene faithfully, then with artifacts that can be seen.

    Returns:
      the faithful drawing, the damaged one, the artifacts, and for each artifact the pixels that it changed.
    """
    faithful = render(scene, size)
    for _ in range(8):
        artifacts = sample_artifacts(rng, scene)
        if not artifacts:
            return faithful, faithful, (), []
        damaged = render(scene, size, artifacts)
        changed = [changed_pixels(faithful.image, damaged.image, artifact) for artifact in artifacts]
        visible = [mask.mean() >= FEWEST_CHANGED for mask in changed]
        if all(visible):
            break
    kept = tuple(artifact for artifact, seen in zip(artifacts, visible, strict=True) if seen)
    if len(kept) < len(artifacts):
        damaged = render(scene, size, kept)
        changed = [mask for mask, seen in zip(changed, visible, strict=True) if seen]
    return faithful, damaged, kept, changed


def changed_pixels(
    before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"], artifact: Artifact
) -> Bool[np.ndarray, "h w"]:
    """The pixels within an artifact's disk that visibly differ."""
    size = len(before)
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    near = (steps[:, None] - artifact.y) ** 2 + (steps - artifact.x) ** 2 <= (artifact.radius + 1 / size) ** 2
    seen = np.abs(before.astype(np.int16) - after) > VISIBLE
    return near & (seen[..., 0] | seen[..., 1] | seen[..., 2])


def misaligned_masks(description: Description, drawing: Drawing) -> list[Bool[np.ndarray, "h w"]]:
    """The pixels of each misalignment with a known place: objects, or a background's free corners."""
    masks: list[np.ndarray] = []
    for fault in description.faults:
        if fault.kind == "background":
            masks.append(_corners(drawing.items.shape[1]) & ~drawing.items.any(0))
        elif fault.items:
            masks += [drawing.items[index] for index in fault.items]
    return [mask for mask in masks if mask.any()]


def _corners(size: int) -> Bool[np.ndarray, "h w"]:
    """Where annotators are told to mark a wrong background: about the four corners of the image."""
    steps = (np.arange(size) + 0.5) / size
    inset = np.minimum(steps, 1 - steps) / CORNER
    return inset[:, None] ** 2 + inset[None] ** 2 < 1
