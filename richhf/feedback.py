"""The vocabulary of rich human feedback and the `Feedback` value: what is said about one image.

Every module of the project speaks these names. Source: Liang et al., *Rich Human Feedback for
Text-to-Image Generation*, CVPR 2024, sections 3 and 4.1.
"""

import dataclasses
import difflib
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from richhf.atomic import atomic_path

HEATMAPS = ("implausibility", "misalignment")
SCORES = ("plausibility", "alignment", "aesthetics", "overall")
KEYWORDS = "keywords"
OUTPUTS = (*HEATMAPS, *SCORES, KEYWORDS)

TASK_STRINGS = {
    "implausibility": "implausibility heatmap",
    "misalignment": "misalignment heatmap",
    "plausibility": "plausibility score",
    "alignment": "alignment score",
    "aesthetics": "aesthetics score",
    "overall": "overall score",
    "keywords": "misaligned keywords",
}
# Asks for a caption of the image, in the pretraining mixture of section 4.1; no output of the feedback.
CAPTION_TASK_STRING = "caption"

MULTI_HEAD = "multi_head"
AUGMENTED_PROMPT = "augmented_prompt"
VARIANTS = (MULTI_HEAD, AUGMENTED_PROMPT)
SPLITS = ("train", "dev", "test")
MISALIGNED_SUFFIX = "_0"

# The annotation page of the paper (section 3) marks artifacts red and misalignments blue. Each map runs from
# a light tone (near 0) to a deep one (1), so that its value reads as depth and not only as opacity.
HEATMAP_COLOURS = {
    "implausibility": ((255, 190, 40), (205, 10, 55)),
    "misalignment": ((40, 205, 225), (50, 45, 205)),
}
FEEDBACK_FILE = "feedback.json"
_FORMAT = 1
_SLACK = 1e-4  # what a resize in float32 may overshoot

ImageLike = Image.Image | UInt8[np.ndarray, "h w 3"] | str | os.PathLike


@dataclasses.dataclass(frozen=True, eq=False)
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

    Raises:
      ValueError: for unknown names, values out of range, maps or flags that do not fit.
    """

    prompt: str
    scores: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    heatmaps: Mapping[str, Float[np.ndarray, "h w"]] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()
    misaligned: tuple[bool, ...] = ()
    image_size: tuple[int, int] = (0, 0)

    def __post_init__(self):
        scores = {name: _checked_score(name, v) for name, v in _in_order(self.scores, SCORES).items()}
        maps = {name: _checked_heatmap(name, v) for name, v in _in_order(self.heatmaps, HEATMAPS).items()}
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
        words, flags = tuple(map(str, self.words)), tuple(map(bool, self.misaligned))
        if flags and len(flags) != len(words):
            raise ValueError(
                f"{len(flags)} misaligned flags for {len(words)} words {words}: expected one a word."
            )
        fields = dict(scores=scores, heatmaps=maps, words=words, misaligned=flags, image_size=size)
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Feedback):
            return NotImplemented
        return (
            (self.prompt, self.scores, self.words, self.misaligned, self.image_size)
            == (other.prompt, other.scores, other.words, other.misaligned, other.image_size)
            and self.heatmaps.keys() == other.heatmaps.keys()
            and all(np.array_equal(value, other.heatmaps[name]) for name, value in self.heatmaps.items())
        )

    @property
    def misaligned_words(self) -> tuple[str, ...]:
        """The words of the prompt that the image does not show."""
        return tuple(word for word, flag in zip(self.words, self.misaligned, strict=False) if flag)

    def likert(self, name: str) -> float:
        """The score `name` on the annotators' scale: 1 (worst) to 5 (best)."""
        return 1.0 + 4.0 * self._get("scores", name)

    def heatmap_layer(self, name: str, *, size: tuple[int, int] | None = None) -> Image.Image:
        """The map as a picture to lay over the image: colour and opacity grow with the value.

        Args:
          name: one of `HEATMAPS`.
          size: (height, width) of the picture; the map's own size if absent.

        Returns:
          An RGBA picture, transparent where the map is 0 and opaque where it is 1.
        """
        heatmap = self._get("heatmaps", name)
        if size is not None and size != heatmap.shape:
            heatmap = np.asarray(Image.fromarray(heatmap).resize(size[::-1], Image.Resampling.BILINEAR))
        value = np.clip(heatmap, 0.0, 1.0)[..., None]
        low, high = (np.asarray(colour, np.float32) for colour in HEATMAP_COLOURS[name])
        # The power lifts what one of three annotators marked, with little haze from a model's small values.
        rgba = np.concatenate([low + (high - low) * value, 255.0 * value**0.7], axis=-1)
        return Image.fromarray(np.round(rgba).astype(np.uint8))

    def overlay(self, name: str, image: ImageLike, *, alpha: float = 0.8) -> Image.Image:
        """The map drawn over the image, the image greyed so that the map's colour stands alone.

        Args:
          name: one of `HEATMAPS`.
          image: the picture; the map is resized to it.
          alpha: opacity of the map where it is 1, in [0, 1].

        Returns:
          An RGB picture of the image's size.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is the map's opacity, in [0, 1], but is {alpha}.")
        picture = open_image(image)
        layer = self.heatmap_layer(name, size=(picture.height, picture.width))
        layer.putalpha(layer.getchannel("A").point(lambda value: round(alpha * value)))
        backdrop = Image.blend(picture, picture.convert("L").convert("RGB"), 0.7).convert("RGBA")
        return Image.alpha_composite(backdrop, layer).convert("RGB")

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

    def to_dict(self) -> dict:
        """All but the maps' pixels, ready for JSON; of a map its mean, its peak and its area above 0.5."""
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
            "image_size": list(self.image_size),
        }

    def save(self, directory: str | os.PathLike, *, image: ImageLike | None = None) -> pathlib.Path:
        """Writes `feedback.json`, each map as `NAME.npy` (exact) and `NAME.png`; with `image`, overlays.

        Files are written under temporary names and renamed, the JSON file last; files of an earlier save that
        this feedback lacks are removed.

        Returns:
          The path of the JSON file.
        """
        directory = pathlib.Path(directory)
        stale = {f"{name}{end}" for name in HEATMAPS for end in (".npy", ".png", "_overlay.png")}
        for name, heatmap in self.heatmaps.items():
            files: dict[str, np.ndarray | Image.Image] = {
                f"{name}.npy": heatmap,
                f"{name}.png": Image.fromarray(np.round(heatmap * 255).astype("u1")),
            }
            if image is not None:
                files[f"{name}_overlay.png"] = self.overlay(name, image)
            for file, content in files.items():
                _write(directory / file, content)
            stale -= files.keys()
        for name in stale:
            (directory / name).unlink(missing_ok=True)
        text = json.dumps({"format": _FORMAT, **self.to_dict()}, indent=2, ensure_ascii=False) + "\n"
        _write(directory / FEEDBACK_FILE, text)
        return directory / FEEDBACK_FILE

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "Feedback":
        """Reads what `save` wrote; the maps come back exactly.

        Raises:
          ValueError: if a file is missing or damaged.
        """
        path = pathlib.Path(directory) / FEEDBACK_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != _FORMAT:
                raise ValueError(f"format {fields['format']!r}, but this version reads format {_FORMAT}")
            maps = {name: path.with_name(f"{name}.npy") for name in fields["heatmaps"]}
            return cls(
                prompt=fields["prompt"],
                scores=fields["scores"],
                heatmaps={name: np.load(file, allow_pickle=False) for name, file in maps.items()},
                words=tuple(fields["words"]),
                misaligned=tuple(fields["misaligned"]),
                image_size=tuple(fields["image_size"]),
            )
        except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path.parent} holds no readable feedback ({type(error).__name__}: {error}). "
                "Expected a folder written by Feedback.save."
            ) from error

    def _get(self, field: str, name: str):
        values = getattr(self, field)
        if name not in values:
            raise ValueError(f"This feedback has no {name!r} in its {field}: {_choices(name, tuple(values))}")
        return values[name]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A prediction minus the truth.

    Attributes:
      scores: predicted minus true score, in [-1, 1].
      heatmaps: predicted minus true map, in [-1, 1].
      hits: indices of words misaligned in both.
      misses: indices of words misaligned in the truth alone.
      false_alarms: indices of words misaligned in the prediction alone.
    """

    scores: dict[str, float]
    heatmaps: dict[str, Float[np.ndarray, "h w"]]
    hits: tuple[int, ...]
    misses: tuple[int, ...]
    false_alarms: tuple[int, ...]


def open_image(image: ImageLike) -> Image.Image:
    """An RGB picture from a path, a PIL picture or a uint8 array `[h w 3]`."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    with Image.open(image) as file:
        return file.convert("RGB")


def _choices(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(known) or 'none'}."


def _in_order(values: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    for name in values:
        if name not in names:
            raise ValueError(f"Unknown output {name!r}: {_choices(name, names)}")
    return {name: values[name] for name in names if name in values}


def _checked_score(name: str, value: float) -> float:
    score = float(value)
    if not -_SLACK <= score <= 1.0 + _SLACK:
        raise ValueError(f"Score {name!r} is {score}, expected [0, 1]: a Likert mark m is (m - 1) / 4.")
    return min(max(score, 0.0), 1.0)


def _checked_heatmap(name: str, value: object) -> np.ndarray:
    heatmap = np.asarray(value)
    if heatmap.ndim != 2 or heatmap.size == 0 or heatmap.dtype.kind != "f":
        raise ValueError(
            f"Heatmap {name!r} is {heatmap.dtype} {heatmap.shape}, expected floats (height, width)."
        )
    low, high = heatmap.min(), heatmap.max()
    if not (low >= -_SLACK and high <= 1.0 + _SLACK):
        raise ValueError(
            f"Heatmap {name!r} spans {low} to {high}, expected [0, 1]: divide 8-bit maps by 255."
        )
    return np.clip(heatmap, 0.0, 1.0).astype(np.float32)


def _write(path: pathlib.Path, content: str | np.ndarray | Image.Image) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if isinstance(content, str):
            file.write(content.encode("utf-8"))
        elif isinstance(content, np.ndarray):
            np.save(file, content, allow_pickle=False)
        else:
            content.save(file, "PNG")
