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
    "black": ("black",),
    "grey": ("grey", "gray"),
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
    "black": (0.08, 0.08, 0.09),
    "grey": (0.52, 0.52, 0.54),
}
# The same colours as drawing programs name them; flat objects lie between `PALETTE` and one of these.
PURE = {
    "red": ((1.0, 0.0, 0.0), (0.86, 0.08, 0.24)),
    "yellow": ((1.0, 1.0, 0.0), (1.0, 0.84, 0.0)),
    "green": ((0.0, 0.50, 0.0), (0.0, 1.0, 0.0)),
    "blue": ((0.0, 0.0, 1.0), (0.25, 0.41, 0.88)),
    "purple": ((0.50, 0.0, 0.50), (0.63, 0.13, 0.94)),
    "pink": ((1.0, 0.75, 0.80), (1.0, 0.41, 0.71)),
    "white": ((1.0, 1.0, 1.0), (0.94, 0.94, 0.92)),
    "brown": ((0.65, 0.16, 0.16), (0.55, 0.27, 0.07)),
    "black": ((0.0, 0.0, 0.0), (0.14, 0.14, 0.14)),
    "grey": ((0.50, 0.50, 0.50), (0.66, 0.66, 0.66)),
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

# Plain backgrounds: one colour, between two tones; how often each is drawn.
BACKDROPS = {
    "white": ((1.0, 1.0, 1.0), (0.93, 0.93, 0.91)),
    "black": ((0.0, 0.0, 0.0), (0.12, 0.12, 0.13)),
    "grey": ((0.35, 0.35, 0.36), (0.83, 0.83, 0.83)),
    "red": ((0.72, 0.08, 0.10), (0.95, 0.30, 0.28)),
    "yellow": ((0.98, 0.80, 0.10), (1.0, 1.0, 0.72)),
    "green": ((0.0, 0.48, 0.12), (0.64, 0.90, 0.62)),
    "blue": ((0.0, 0.05, 0.60), (0.66, 0.84, 0.95)),
    "purple": ((0.38, 0.10, 0.58), (0.80, 0.65, 0.92)),
    "pink": ((0.98, 0.48, 0.70), (1.0, 0.80, 0.86)),
    "brown": ((0.38, 0.22, 0.09), (0.72, 0.55, 0.38)),
}
BACKDROP_SHARES = {"white": 0.36, "black": 0.16, "grey": 0.16}  # the other colours share the rest

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


def rgb(colour: str, purity: float = 0.0, variant: int = 0) -> Float[np.ndarray, "3"]:
    """Returns the float32 RGB in [0, 1] of a colour concept, from the palette's (purity 0) to a pure one."""
    palette, pure = np.asarray(PALETTE[colour], np.float32), np.asarray(PURE[colour][variant], np.float32)
    return palette + np.float32(purity) * (pure - palette)


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
