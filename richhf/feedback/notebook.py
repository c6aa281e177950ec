"""What a notebook shows of feedback: one piece of HTML that needs nothing else."""

import html
from collections.abc import Mapping
from typing import Any

from PIL import Image

from richhf.feedback.drawing import HEATMAP_COLOURS, data_uri

SIDE = 224
_FINDINGS = {"has_artifact": "artifact", "has_misalignment": "misalignment"}
# Half transparent greys are seen on a notebook's light and dark page.
_LINE = "border:1px solid #8884;border-radius:4px"


def feedback_html(
    told: Mapping[str, Any], picture: Image.Image | None, maps: Mapping[str, Image.Image]
) -> str:
    """The image, its maps, the prompt with misaligned words marked, and a bar for each score.

    Args:
      told: what `Feedback.to_dict` says.
      picture: the image, if it is known.
      maps: pictures of the maps, by name.
    """
    pictures = {"image": picture} if picture is not None else {}
    figures = "".join(_figure(name, one) for name, one in {**pictures, **maps}.items())
    bars = "".join(_bar(name, value) for name, value in told["scores"].items())
    findings = ", ".join(word for name, word in _FINDINGS.items() if told[name])
    parts = [
        f'<div style="display:flex;gap:12px;flex-wrap:wrap">{figures}</div>' if figures else "",
        f'<p style="margin:8px 0">{_words(told)}</p>',
        f'<table style="border-collapse:collapse">{bars}</table>' if bars else "",
        f'<p style="margin:8px 0">Found: {findings}</p>' if findings else "",
    ]
    return f'<div style="font-family:sans-serif;font-size:13px">{"".join(parts)}</div>'


def _figure(name: str, picture: Image.Image) -> str:
    kind = "png" if picture.mode == "RGBA" else "jpeg"
    shown = picture.copy()
    shown.thumbnail((2 * SIDE, 2 * SIDE))
    scale = SIDE / max(shown.size)
    size = f'width="{round(shown.width * scale)}" height="{round(shown.height * scale)}"'
    image = f'<img src="{data_uri(shown, kind)}" {size} alt="{html.escape(name)}" style="{_LINE}">'
    return f'<figure style="margin:0">{image}<figcaption>{html.escape(name)}</figcaption></figure>'


def _bar(name: str, value: float) -> str:
    track = f"width:{SIDE}px;height:10px;padding:0;{_LINE}"
    fill = f'<div style="width:{100 * value:.1f}%;height:10px;background:#2a7"></div>'
    return (
        f'<tr><td style="text-align:left">{html.escape(name)}</td>'
        f'<td><div style="{track}">{fill}</div></td><td style="text-align:right">{value:.2f}</td></tr>'
    )


def _words(told: Mapping[str, Any]) -> str:
    """The prompt's words, those that are misaligned marked; or the prompt, where no word was looked at."""
    if not told["misaligned"]:
        return html.escape(told["prompt"])
    colour = "rgb({},{},{})".format(*HEATMAP_COLOURS["misalignment"][1])
    shown = []
    for index, (word, flag) in enumerate(zip(told["words"], told["misaligned"], strict=True)):
        confidences = told["word_confidences"]
        hint = f' title="misaligned with probability {confidences[index]:.2f}"' if confidences else ""
        style = f' style="color:white;background:{colour};border-radius:3px;padding:0 3px"' if flag else ""
        tag = "mark" if flag else "span"
        shown.append(f"<{tag}{style}{hint}>{html.escape(word)}</{tag}>")
    return " ".join(shown)
