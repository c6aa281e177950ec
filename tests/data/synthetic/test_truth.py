import dataclasses

import numpy as np
import pytest

from richhf.data.synthetic.artifacts import sample_artifact
from richhf.data.synthetic.grammar import sample_mentions, write_prompt
from richhf.data.synthetic.misalign import Description, inject
from richhf.data.synthetic.scene import sample_scene
from richhf.data.synthetic.truth import (
    aesthetics_score,
    alignment_score,
    balance,
    overall_score,
    plausibility_score,
)


@pytest.fixture
def scene():
    return sample_scene(np.random.default_rng(2))


def test_plausibility_falls_with_extent_severity_and_number(scene):
    artifact = dataclasses.replace(sample_artifact(np.random.default_rng(0), scene, "smear"), severity=0.3)
    worse = dataclasses.replace(artifact, severity=0.9)
    assert plausibility_score((), []) == 1
    one = plausibility_score((artifact,), [0.01])
    assert 1 > one > plausibility_score((artifact,), [0.03])
    assert one > plausibility_score((worse,), [0.01])
    assert one > plausibility_score((artifact, artifact), [0.01, 0.01])


def test_alignment_falls_with_every_fault():
    for index in range(40):
        rng = np.random.default_rng([8, index])
        scene = sample_scene(rng)
        description = Description(scene, sample_mentions(rng, scene), ())
        scores = []
        for _ in range(3):
            prompt = write_prompt(rng, description.scene, description.mentions)
            scores.append(alignment_score(description, prompt))
            description = inject(rng, scene, description)
        assert scores[0] == 1
        assert scores[1] < 0.9
        assert scores[2] < scores[0]


def test_aesthetics_rises_with_clarity(scene):
    values = [aesthetics_score(dataclasses.replace(scene, clarity=c)) for c in (0.0, 0.5, 1.0)]
    assert values[0] < values[1] < values[2]


def test_balance(scene):
    group = scene.groups[0]
    item = dataclasses.replace(group.items[0], x=0.5, y=0.5)
    centred = dataclasses.replace(scene, groups=(dataclasses.replace(group, items=(item,)),))
    corner = dataclasses.replace(item, x=0.15, y=0.15)
    aside = dataclasses.replace(scene, groups=(dataclasses.replace(group, items=(corner,)),))
    assert balance(centred) == pytest.approx(1)
    assert balance(aside) == 0


def test_overall_mixes_and_punishes_the_worst():
    assert overall_score((1.0, 1.0, 1.0)) == 1
    assert overall_score((0.0, 0.0, 0.0)) == 0
    assert overall_score((0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert overall_score((0.6, 0.6, 0.6)) > overall_score((0.9, 0.6, 0.3))
