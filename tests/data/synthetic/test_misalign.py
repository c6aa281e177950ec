import dataclasses

import numpy as np
import pytest

from richhf.data.synthetic.grammar import sample_mentions, write_prompt
from richhf.data.synthetic.misalign import KINDS, Description, describe, inject
from richhf.data.synthetic.scene import sample_scene


def injected(kind, number=25):
    """Scenes with one fault of a kind: (shown scene, description, prompt)."""
    found = []
    for index in range(2000):
        rng = np.random.default_rng([3, index])
        scene = sample_scene(rng)
        mentions = sample_mentions(rng, scene)
        try:
            description = inject(rng, scene, Description(scene, mentions, ()), kind)
        except ValueError:
            continue
        found.append((scene, description, write_prompt(rng, description.scene, description.mentions)))
        if len(found) == number:
            return found
    raise AssertionError(f"only {len(found)} descriptions had a place for {kind}")


def wrong_words(description, prompt):
    false = description.false_claims
    return [(word, claim) for word, claim in zip(prompt.words, prompt.claims, strict=True) if claim in false]


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "texture", "count", "relation", "background"])
def test_a_wrong_attribute_makes_exactly_its_word_wrong(kind):
    for shown, description, prompt in injected(kind):
        wrong = wrong_words(description, prompt)
        assert len(wrong) == 1
        attribute, group = wrong[0][1]
        assert attribute == kind
        said = description.scene
        if group is None:
            assert getattr(said, kind) != getattr(shown, kind)
            assert dataclasses.replace(said, **{kind: getattr(shown, kind)}) == shown
        else:
            name = "items" if kind == "count" else kind
            assert getattr(said.groups[group], kind) != getattr(shown.groups[group], kind)
            restored = said.with_group(group, **{name: getattr(shown.groups[group], name)})
            assert restored == shown


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "texture", "count"])
def test_the_objects_concerned_are_those_of_the_group(kind):
    for shown, description, _ in injected(kind):
        ((_, group),) = description.false_claims
        (fault,) = description.faults
        assert [shown.items[index][0] for index in fault.items] == [group] * shown.groups[group].count


def test_a_missing_object_is_said_and_not_shown():
    for shown, description, prompt in injected("missing"):
        last = len(shown.groups)
        said = description.scene.groups
        assert said[:last] == shown.groups
        assert said[last].shape not in {group.shape for group in shown.groups}
        assert {claim[1] for _, claim in wrong_words(description, prompt)} <= {last, None}
        assert ("shape", last) in {claim for _, claim in wrong_words(description, prompt)}
        assert description.faults[0].items == ()
        assert description.faults[0].place is not None


def test_an_extra_object_makes_only_wrong():
    for shown, description, prompt in injected("extra"):
        last = len(shown.groups) - 1
        assert description.scene.groups == shown.groups[:last]
        assert [word in ("only", "just") for word, _ in wrong_words(description, prompt)] == [True]
        (fault,) = description.faults
        assert {shown.items[index][0] for index in fault.items} == {last}


def test_a_wrong_shape_is_shown_nowhere():
    for shown, description, _ in injected("shape"):
        ((_, group),) = description.false_claims
        assert description.scene.groups[group].shape not in {each.shape for each in shown.groups}


def test_an_impossible_fault_says_what_is_possible():
    scene = next(
        scene
        for scene in (sample_scene(np.random.default_rng(i)) for i in range(50))
        if scene.relation is None
    )
    with pytest.raises(ValueError, match=r"relation.*allows"):
        inject(np.random.default_rng(0), scene, Description(scene, frozenset({("shape", 0)}), ()), "relation")


def test_shares_of_kinds_and_of_faultless_descriptions():
    kinds, faultless, number = set(), 0, 1500
    for index in range(number):
        rng = np.random.default_rng([4, index])
        scene = sample_scene(rng)
        description = describe(rng, scene, sample_mentions(rng, scene))
        kinds |= {fault.kind for fault in description.faults}
        faultless += not description.faults
    assert kinds == set(KINDS)
    assert 0.10 < faultless / number < 0.15
