"""The prompt grammar: a scene described in words, every word tagged with the claim that it makes.

A *claim* is a pair `(attribute, group index)`, such as `("colour", 0)`, or `("background", None)`. What is
said is chosen before what is wrong, so that which attributes a prompt mentions gives no fault away.
"""

from dataclasses import dataclass

import numpy as np

from richhf.data.synthetic.concepts import (
    BACKDROPS,
    BACKGROUNDS,
    COLOURS,
    COUNT_NOUNS,
    COUNTS,
    EXCLUSIVES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURE_NOUNS,
    TEXTURES,
)
from richhf.data.synthetic.scene import Group, Scene

Claim = tuple[str, int | None]
Words = list[tuple[str, Claim | None]]

PLAIN_NAME_SHARE = 0.7
OPENINGS = ("a picture of", "a drawing of", "a painting of", "a photo of", "we see", "there is")
PLACES = ("on a {} background", "against a {} backdrop", "with a {} background", "in front of a {} scene")
PLAIN_PLACES = (*PLACES[:3], "in front of a {} background")
JOINTS = (("and",), ("with",), ("plus",), ("together", "with"))


@dataclass(frozen=True)
class Prompt:
    """A prompt with, for every word, the claim it makes (None for words that claim nothing)."""

    text: str
    words: tuple[str, ...]
    claims: tuple[Claim | None, ...]


def sample_mentions(rng: np.random.Generator, scene: Scene) -> frozenset[Claim]:
    """Chooses what a prompt will say of a scene."""
    mentions: set[Claim] = set()
    for index, group in enumerate(scene.groups):
        mentions |= mention_group(rng, group, index, len(scene.groups))
    if scene.relation is not None:
        mentions.add(("relation", None))
    if rng.random() < 0.6:
        mentions.add(("background", None))
    if rng.random() < 0.12:
        mentions.add(("exclusive", None))
    return frozenset(mentions)


def mention_group(rng: np.random.Generator, group: Group, index: int, groups: int) -> set[Claim]:
    """Chooses what is said of one group; shorter where there are many."""
    brevity = (1.0, 0.85, 0.6)[groups - 1]
    chances = {
        "shape": 1.0,
        "colour": 0.85,
        "size": 0.5 * brevity if group.size in SIZES else 0.0,
        "texture": (0.2 if group.texture == "plain" else 0.75) * brevity,
        "count": 0.9 if group.count > 1 else 0.2 * brevity,
    }
    return {(attribute, index) for attribute, chance in chances.items() if rng.random() < chance}


def write_prompt(rng: np.random.Generator, scene: Scene, mentions: frozenset[Claim]) -> Prompt:
    """Puts a scene into words: one of several phrasings, with synonyms, in lower case."""
    body: Words = []
    if ("exclusive", None) in mentions:
        body.append((_pick(rng, EXCLUSIVES), ("exclusive", None)))
    body += _group(rng, scene.groups[0], 0, mentions)
    if len(scene.groups) > 1:
        body += _relation(rng, scene.relation) if scene.relation else _plain(_pick(rng, JOINTS))
        body += _group(rng, scene.groups[1], 1, mentions)
    if len(scene.groups) > 2:
        body[-1] = (body[-1][0] + ",", body[-1][1])
        body += _plain(_pick(rng, (("and",), ("plus",), ("and", "also"))))
        body += _group(rng, scene.groups[2], 2, mentions)

    place: Words = []
    if ("background", None) in mentions:
        plain = scene.background in BACKDROPS
        word = _name(rng, COLOURS[scene.background] if plain else BACKGROUNDS[scene.background])
        for part in _pick(rng, PLAIN_PLACES if plain else PLACES).split():
            place.append((word, ("background", None)) if part == "{}" else (part, None))
    if place and rng.random() < 0.25:
        place[-1] = (place[-1][0] + ",", place[-1][1])
        words = place + body
    else:
        opening = _pick(rng, OPENINGS).split() if rng.random() < 0.5 else ()
        words = _plain(opening) + body + place
    text = " ".join(word for word, _ in words)
    if rng.random() < 0.15:
        text += "."
    return Prompt(text, tuple(word.rstrip(",") for word, _ in words), tuple(claim for _, claim in words))


def _group(rng: np.random.Generator, group: Group, index: int, mentions: frozenset[Claim]) -> Words:
    said = {attribute for attribute, owner in mentions if owner == index}
    words = _count(rng, group.count, index, "count" in said)
    late_texture = group.texture in TEXTURE_NOUNS and rng.random() < 0.3
    late_colour = rng.random() < 0.15
    if "size" in said:
        words.append((_name(rng, SIZES[group.size]), ("size", index)))
    if "texture" in said and not late_texture:
        words.append((_name(rng, TEXTURES[group.texture]), ("texture", index)))
    colour = (_name(rng, COLOURS[group.colour]), ("colour", index))
    if "colour" in said and not late_colour:
        words.append(colour)
    words.append((_name(rng, SHAPES[group.shape][group.count > 1]), ("shape", index)))
    if "colour" in said and late_colour:
        words += [("in", None), colour]
    if "texture" in said and late_texture:
        words += [("with", None), (_name(rng, TEXTURE_NOUNS[group.texture]), ("texture", index))]
    return words


def _count(rng: np.random.Generator, count: int, index: int, said: bool) -> Words:
    claim = ("count", index)
    if not said:
        return [("a" if count == 1 else "some", None)]
    if rng.random() < 0.6:
        return [(_pick(rng, COUNTS[count]), claim)]
    words: Words = [("a", None), (_pick(rng, COUNT_NOUNS[count]), claim)]
    return words if count == 1 else [*words, ("of", None)]


def _relation(rng: np.random.Generator, relation: str) -> Words:
    word = (_name(rng, RELATIONS[relation]), ("relation", None))
    if relation in ("above", "below"):
        return [word]
    lead = _pick(rng, ((), ("to", "the"), ("on", "the")))
    return [*_plain(lead), word, ("of", None)]


def _plain(words) -> Words:
    return [(word, None) for word in words]


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]


def _name(rng: np.random.Generator, synonyms: tuple[str, ...]) -> str:
    """A word for a concept: mostly its plain name, else any of its synonyms."""
    return synonyms[0] if rng.random() < PLAIN_NAME_SHARE else _pick(rng, synonyms)
