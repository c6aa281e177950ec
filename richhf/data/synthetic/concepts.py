"""What the scenes are made of and the words for it: concept tables, the palette and the lexicon.

A *concept* is something an image can show (`red`, `circle`, `striped`); its *surface words* are how a prompt
says it. No word after an article starts with a vowel, so that exchanging a word for another of its category
leaves grammatical English: what gives a wrong word away must be the image, never the article before it.
"""

import numpy as np
from jaxtyping import Float

COLOURS = {
    "red": ("red", "crimson", "scarlet"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "jade"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "white": ("white", "pale"),
    "brown": ("brown", "chocolate"),
}
PALETTE = {
    "red": (0.86, 0.14, 0.15),
    "yellow": (0.99, 0.82, 0.12),
    "green": (0.13, 0.65, 0.26),
    "blue": (0.14, 0.38, 0.90),
    "purple": (0.52, 0.20, 0.76),
    "pink": (0.99, 0.51, 0.73),
    "white": (0.97, 0.97, 0.95),
    "brown": (0.50, 0.30, 0.14),
}

SHAPES = {
    "circle": (("circle", "disc"), ("circles", "discs")),
    "square": (("square", "box"), ("squares", "boxes")),
    "triangle": (("triangle", "wedge"), ("triangles", "wedges")),
    "star": (("star", "pentagram"), ("stars", "pentagrams")),
    "heart": (("heart",), ("hearts",)),
    "ring": (("ring", "hoop"), ("rings", "hoops")),
}

SIZES = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
TEXTURES = {
    "plain": ("plain", "smooth"),
    "striped": ("striped", "banded"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "checked"),
}
TEXTURE_NOUNS = {"striped": ("stripes", "bands"), "dotted": ("dots", "spots"), "checkered": ("checks",)}

BACKGROUNDS = {
    "night": ("night", "midnight"),
    "snow": ("snow", "winter"),
    "desert": ("desert", "sandy"),
    "meadow": ("meadow", "grassy"),
    "sea": ("sea", "marine"),
    "sunset": ("sunset", "dusk"),
}

COUNTS = {1: ("one",), 2: ("two",), 3: ("three",), 4: ("four",)}
COUNT_NOUNS = {1: ("single", "lone"), 2: ("pair", "couple"), 3: ("trio",), 4: ("quartet",)}
RELATIONS = {
    "left": ("left",),
    "right": ("right",),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
EXCLUSIVES = ("only", "just")


def rgb(colour: str) -> Float[np.ndarray, "3"]:
    """The palette's float32 RGB in [0, 1] of a colour concept."""
    return np.asarray(PALETTE[colour], np.float32)


def lexicon() -> dict[str, dict[str, list[str]]]:
    """Category -> concept -> surface words, for exchanging a word of a prompt by a wrong one.

    Every word stands in one category and one concept only. Forms that are not interchangeable in a sentence
    (singular and plural, `left` and `above`, `two` and `pair`) are different categories.
    """

    def listed(table: dict, names=None) -> dict[str, list[str]]:
        return {str(name): list(words) for name, words in table.items() if names is None or name in names}

    return {
        "colour": listed(COLOURS),
        "shape_singular": {name: list(forms[0]) for name, forms in SHAPES.items()},
        "shape_plural": {name: list(forms[1]) for name, forms in SHAPES.items()},
        "size": listed(SIZES),
        "texture": listed(TEXTURES),
        "texture_noun": listed(TEXTURE_NOUNS),
        "background": listed(BACKGROUNDS),
        "count": listed(COUNTS, (2, 3, 4)),
        "count_noun": listed(COUNT_NOUNS, (2, 3, 4)),
        "relation_horizontal": listed(RELATIONS, ("left", "right")),
        "relation_vertical": listed(RELATIONS, ("above", "below")),
    }
