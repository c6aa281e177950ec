"""What a notebook shows of feedback: one piece of HTML that needs nothing else."""

import html
from collections.abc import Mapping
from typing import Any

from PIL import Image

from richhf.feedback.drawing import HEATMAP_COLOURS, data_uri
from richhf.feedback.names import VERDICTS

SIDE = 224
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
    found, reasons = found_text(told), reasons_text(told["findings"])
    parts = [
        f'<div style="display:flex;gap:12px;flex-wrap:wrap">{figures}</div>' if figures else "",
        f'<p style="margin:8px 0">{_words(told)}</p>',
        f'<table style="border-collapse:collapse;font:inherit;color:inherit">{bars}</table>' if bars else "",
        f'<p style="margin:8px 0">{found}</p>' if found else "",
        *(f'<p style="margin:2px 0">{html.escape(reason)}</p>' for reason in reasons),
    ]
    return f'<div style="font-family:sans-serif;font-size:13px">{"".join(parts)}</div>'


def found_text(verdicts: Mapping[str, Any]) -> str:
    """Verdicts by name in words, as in `Found: artifact`; nothing where nothing decides."""
    decided = {name.removeprefix("has_"): verdicts.get(name) for name in VERDICTS}
    decided = {name: verdict for name, verdict in decided.items() if verdict is not None}
    return f"Found: {', '.join(name for name in decided if decided[name]) or 'nothing'}" if decided else ""


def reasons_text(findings: Mapping[str, Any]) -> list[str]:
    """Returns a line for each verdict, as in `No artifact: the implausibility map peaks at ...`.

    Args:
        findings: by verdict, each a mapping with `verdict` and `reasons`.
    """
    lines = []
    for name, finding in findings.items():
        kind = name.removeprefix("has_")
        kind = kind.capitalize() if finding["verdict"] else f"No {kind}"
        lines.append(f"{kind}: {'; '.join(finding['reasons'])}.")
    return lines


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
    """The prompt's words, the misaligned ones marked, those that nothing is said of grey; or the prompt."""
    if not told["misaligned"] and not told["uncovered_words"]:
        return html.escape(told["prompt"])
    colour = "rgb({},{},{})".format(*HEATMAP_COLOURS["misalignment"][1])
    shown = []
    for index, word in enumerate(told["words"]):
        flag, covered, confidence = (
            values[index] if values else unsaid
            for values, unsaid in (
                (told["misaligned"], False),
                (told["covered"], True),
                (told["word_confidences"], None),
            )
        )
        hint = "" if confidence is None else f"misaligned with probability {confidence:.2f}"
        style = f"color:white;background:{colour};border-radius:3px;padding:0 3px" if flag else ""
        if not covered:
            style, hint = "color:#888;text-decoration:underline dotted", "not covered by the feedback"
        tag = "mark" if flag else "span"
        attributes = [f' {name}="{value}"' for name, value in (("style", style), ("title", hint)) if value]
        shown.append(f"<{tag}{''.join(attributes)}>{html.escape(word)}</{tag}>")
    return " ".join(shown)
