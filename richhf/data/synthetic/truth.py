"""The true scores of an example, before anybody rounds or errs."""

import numpy as np

from richhf.data.synthetic.artifacts import Artifact
from richhf.data.synthetic.grammar import Prompt
from richhf.data.synthetic.misalign import CLAIM_WEIGHTS, Description
from richhf.data.synthetic.render import local_contrast
from richhf.data.synthetic.scene import Scene


def true_scores(
    scene: Scene,
    description: Description,
    prompt: Prompt,
    artifacts: tuple[Artifact, ...],
    extents: list[float],
) -> dict[str, float]:
    """The four scores in [0, 1], higher is better.

    Args:
      scene: the scene as it is shown.
      description: what the prompt says of it.
      prompt: how it says it.
      artifacts: what was damaged.
      extents: for each artifact the share of the image that it changed.
    """
    plausibility = plausibility_score(artifacts, extents)
    alignment = alignment_score(description, prompt)
    aesthetics = aesthetics_score(scene)
    parts = (plausibility, alignment, aesthetics)
    return {
        "plausibility": plausibility,
        "alignment": alignment,
        "aesthetics": aesthetics,
        "overall": overall_score(parts),
    }


def overall_score(parts: tuple[float, float, float]) -> float:
    """A mix of the other three, in which the worst counts again, spread over the whole scale."""
    mix = 0.75 * float(np.dot(parts, (0.3, 0.4, 0.3))) + 0.25 * min(parts)
    return float(np.clip(0.5 + 1.4 * (mix - 0.5), 0, 1))


def plausibility_score(artifacts: tuple[Artifact, ...], extents: list[float]) -> float:
    """Falls with the severity and the changed area of every artifact; 1 without any."""
    harm = sum(
        (0.45 + 0.55 * artifact.severity) * (0.4 + 0.6 * min(extent / 0.03, 2.0))
        for artifact, extent in zip(artifacts, extents, strict=True)
    )
    return float(np.exp(-0.75 * harm))


def alignment_score(description: Description, prompt: Prompt) -> float:
    """Falls with the weight of the prompt's false words and their share of all that it claims; 1 if none is.

    The share is damped by a square root: else long prompts, and with them crowded images, would score higher
    whatever is wrong, and an image alone would tell.
    """
    weights = [CLAIM_WEIGHTS[claim[0]] if claim else 0.0 for claim in prompt.claims]
    wrong = [
        weight
        for claim, weight in zip(prompt.claims, weights, strict=True)
        if claim in description.false_claims
    ]
    return float(np.exp(-2.7 * sum(wrong) / np.sqrt(4.5 * sum(weights))))


def aesthetics_score(scene: Scene) -> float:
    """Rises with clarity, with the contrast of objects to the background, and with a balanced composition."""
    contrast = min(local_contrast(scene) / 0.75, 1.0)
    value = 0.62 * scene.clarity + 0.26 * contrast + 0.12 * balance(scene)
    return float(np.clip((value - 0.14) / 0.76, 0, 1))


def balance(scene: Scene) -> float:
    """1 if the objects' centre of mass is the image's centre, falling to 0 at a third of the side away."""
    places = np.array([(item.x, item.y, item.radius**2) for _, item in scene.items])
    centre = places[:, :2].T @ places[:, 2] / places[:, 2].sum()
    return float(max(1 - 3 * np.hypot(*(centre - 0.5)), 0))
