"""Misalignment faults: where a prompt says something else than the image shows.

The scene that is shown is always an ordinary draw; a fault changes what is *said* of it. So the images alone,
with or without a fault, have one and the same distribution, and only image and prompt together give it away.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from richhf.data.synthetic.concepts import BACKDROPS, BACKGROUNDS, COLOURS, OPPOSITE, SHAPES, TEXTURES
from richhf.data.synthetic.grammar import Claim, mention_group
from richhf.data.synthetic.scene import RADII, Group, Item, Scene, free_place

ALIGNED_SHARE = 0.125
# By the number of groups shown: how often there is a second fault, and what becomes of the share of missing
# objects. With these the alignment score has about one mean whatever the image shows.
SECOND_FAULT_SHARES = (0.1, 0.4, 0.6)
MISSING_FACTORS = (0.5, 1.2, 0.0)
KINDS = {
    "colour": 0.24,
    "shape": 0.15,
    "size": 0.12,
    "texture": 0.1,
    "count": 0.12,
    "relation": 0.09,
    "background": 0.18,
    "missing": 0.12,
    "extra": 0.06,
}
COUNT_SHARES = {1: 0.36, 2: 0.34, 3: 0.2, 4: 0.1}  # of a wrong number: about as often as the right ones
# How much a wrong word of each kind weighs in the alignment score.
CLAIM_WEIGHTS = {
    "shape": 1.2,
    "colour": 1.0,
    "count": 1.0,
    "relation": 1.0,
    "background": 1.0,
    "exclusive": 0.8,
    "texture": 0.8,
    "size": 0.7,
}


@dataclass(frozen=True)
class Misalignment:
    """One fault.

    Attributes:
      kind: a key of `KINDS`.
      claims: the claims that are false; exactly the words that make them are misaligned.
      items: the shown objects concerned (indices into `Scene.items`); empty for `background` and `missing`.
      place: where a missing object would have stood, else None.
    """

    kind: str
    claims: frozenset[Claim]
    items: tuple[int, ...] = ()
    place: Item | None = None


@dataclass(frozen=True)
class Description:
    """What is said of a scene: the scene as described, what of it is mentioned, and what of that is wrong."""

    scene: Scene
    mentions: frozenset[Claim]
    faults: tuple[Misalignment, ...]

    @property
    def false_claims(self) -> frozenset[Claim]:
        """What the faults make false; a word is misaligned if and only if its claim is one of these."""
        return frozenset().union(*(fault.claims for fault in self.faults))


def describe(rng: np.random.Generator, scene: Scene, mentions: frozenset[Claim]) -> Description:
    """Draws how many faults a description has (none, one or two) and of which kinds."""
    description = Description(scene, mentions, ())
    if rng.random() < ALIGNED_SHARE:
        return description
    description = inject(rng, scene, description)
    if rng.random() < SECOND_FAULT_SHARES[len(scene.groups) - 1]:
        description = inject(rng, scene, description)
    return description


def inject(
    rng: np.random.Generator, shown: Scene, description: Description, kind: str | None = None
) -> Description:
    """Adds one fault, of the given kind or of a random one that the description allows.

    Raises:
      ValueError: a kind was asked for that this description has no place for.
    """
    targets = _targets(shown, description)
    open_kinds = [name for name in KINDS if targets[name]]
    if kind is None:
        if not open_kinds:
            return description
        factors = {"missing": MISSING_FACTORS[len(shown.groups) - 1]}
        weights = np.array([KINDS[name] * factors.get(name, 1.0) for name in open_kinds])
        kind = open_kinds[rng.choice(len(open_kinds), p=weights / weights.sum())]
    if kind not in open_kinds:
        raise ValueError(f"no place for a fault of kind {kind!r} here; this description allows {open_kinds}")
    target = targets[kind][rng.integers(len(targets[kind]))]
    if kind == "missing":
        return _missing(rng, shown, description)
    if kind == "extra":
        return _extra(shown, description)
    said, claim = description.scene, (kind, target)
    items: tuple[int, ...] = ()
    if target is not None:
        scene = said.with_group(target, **_wrong(rng, shown, said, kind, target))
        items = _items_of(shown, (target,))
    elif kind == "relation":
        scene = replace(said, relation=_other(rng, OPPOSITE, {shown.relation}))
        items = _items_of(shown, (0, 1))
    else:
        alike = BACKDROPS if shown.background in BACKDROPS else BACKGROUNDS
        scene = replace(said, background=_other(rng, alike, {shown.background}))
    fault = Misalignment(kind, frozenset({claim}), items)
    return replace(description, scene=scene, faults=(*description.faults, fault))


def _targets(shown: Scene, description: Description) -> dict[str, list[int | None]]:
    """For every kind of fault, the groups (or [None]) that it can still hit."""
    said = description.scene
    common = [index for index in range(min(len(shown.groups), len(said.groups)))]
    restructured = len(shown.groups) != len(said.groups)
    free = description.mentions - description.false_claims
    open_to: dict[str, list[int | None]] = {
        name: [index for index in common if (name, index) in free]
        for name in ("colour", "shape", "size", "texture", "count")
    }
    both_stand = len(common) > 1 and ("relation", None) in free and said.relation is not None
    return {
        **open_to,
        "relation": [None] if both_stand else [],
        "background": [None] if ("background", None) in free else [],
        "missing": [None] if not restructured and len(said.groups) < 3 else [],
        "extra": [None] if not restructured and not description.faults and len(said.groups) > 1 else [],
    }


def _wrong(rng: np.random.Generator, shown: Scene, said: Scene, kind: str, target: int) -> dict[str, Any]:
    group = shown.groups[target]
    if kind == "colour":
        return {"colour": _other(rng, COLOURS, {group.colour})}
    if kind == "texture":
        return {"texture": _other(rng, TEXTURES, {group.texture})}
    if kind == "size":
        return {"size": "small" if group.size == "big" else "big"}
    if kind == "count":
        chances = np.array([share * (count != group.count) for count, share in COUNT_SHARES.items()])
        count = int(rng.choice(list(COUNT_SHARES), p=chances / chances.sum()))
        return {"items": tuple(group.items[index % group.count] for index in range(count))}
    taken = {group.shape for scene in (shown, said) for group in scene.groups}
    return {"shape": _other(rng, SHAPES, taken)}


def _missing(rng: np.random.Generator, shown: Scene, description: Description) -> Description:
    said, index = description.scene, len(description.scene.groups)
    size = ("small", "big")[rng.integers(2)]
    taken = {group.shape for scene in (shown, said) for group in scene.groups}
    group = Group(
        shape=_other(rng, SHAPES, taken),
        colour=_other(rng, COLOURS, set()),
        size=size,
        texture=list(TEXTURES)[rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))],
        items=(free_place(rng, shown, float(np.mean(RADII[size]))),),
    )
    mentions = mention_group(rng, group, index, index + 1)
    claims = set(mentions)
    relation = said.relation
    if index == 1 and said.groups[0].count == 1 and rng.random() < 0.8:
        relation = list(OPPOSITE)[rng.integers(4)]
        mentions.add(("relation", None))
        claims.add(("relation", None))
    fault = Misalignment("missing", frozenset(claims), (), group.items[0])
    scene = replace(said, groups=(*said.groups, group), relation=relation)
    return Description(scene, description.mentions | mentions, (*description.faults, fault))


def _extra(shown: Scene, description: Description) -> Description:
    """The last group stays unsaid while the prompt claims that there is nothing else."""
    said, last = description.scene, len(description.scene.groups) - 1
    fault = Misalignment("extra", frozenset({("exclusive", None)}), _items_of(shown, (last,)))
    mentions = {claim for claim in description.mentions if claim[1] != last} | {("exclusive", None)}
    relation = said.relation if last > 1 else None
    if relation is None:
        mentions.discard(("relation", None))
    scene = replace(said, groups=said.groups[:last], relation=relation)
    return Description(scene, frozenset(mentions), (*description.faults, fault))


def _items_of(scene: Scene, groups: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(index for index, (group, _) in enumerate(scene.items) if group in groups)


def _other(rng: np.random.Generator, options, taken):
    rest = [option for option in options if option not in taken]
    return rest[rng.integers(len(rest))]
