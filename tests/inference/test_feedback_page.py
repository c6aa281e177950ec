import csv
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, OUTPUTS, SCORES, Feedback
from richhf.inference.feedback_page import write_feedback_page
from richhf.inference.gallery import GalleryExample

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# plausibility of each, in the order given; names are the notes on their cards
PLAUSIBILITY = {"one": 0.5, "two": 0.9, "three": 0.1}


@pytest.fixture
def page(tmp_path):
    rng = np.random.default_rng(0)

    def examples():
        for i, (name, plausibility) in enumerate(PLAUSIBILITY.items()):
            feedback = Feedback(
                f"a <b>red</b> cat number {name}",
                dict.fromkeys(SCORES, 0.5) | {"plausibility": plausibility},
                {heatmap: rng.random((24, 32)).astype(np.float32) for heatmap in HEATMAPS},
                ("a", "<b>red</b>", "cat", "number", name),
                (False, i > 0, i > 1, False, False),
                covered=(True, True, True, i != 1, True),
            )
            image = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            verdicts = {"has_artifact": i > 0, "has_misalignment": i > 1}
            reasons = {"has_artifact": ["the score is < 0.5"], "has_misalignment": ["no <b>", "nothing else"]}
            yield GalleryExample(image, None, feedback, note=name, verdicts=verdicts, reasons=reasons)

    return write_feedback_page(
        tmp_path / "index.html",
        examples(),
        outputs=OUTPUTS,
        rows=table(),
        demonstration="no <photos>.",
    )


PROMPTS = ['=HYPERLINK("x"), 1', "日本 <b>red</b>;\ncat", "-1+1", "a cat"]


def table():
    """A row for each card, and two of images without feedback."""
    rows = []
    for i, (prompt, score) in enumerate(zip(PROMPTS, [*PLAUSIBILITY.values(), None], strict=True)):
        row = {"id": f"</script>{i}", "image": f"{i}.png", "prompt": prompt, "width": 32, "height": 24}
        row |= dict.fromkeys(SCORES, None if score is None else 0.5) | {"plausibility": score}
        row |= {"has_artifact": None if score is None else i > 0, "has_misalignment": None}
        row |= {"words": ["a", "cat"], "misaligned": [False, i == 1], "error": None}
        rows.append(row)
    rows[-1] |= {"error": "undecodable image", "image": "zbad<.png", "misaligned": None, "words": None}
    return rows


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given(page):
    text = page.read_text()
    assert text.count("<article") == len(PLAUSIBILITY)
    assert "<b>red</b>" not in text
    assert "zbad&lt;.png" in text
    assert text.count('title="not covered by the feedback">number</span>') == 1
    found = ["Found: nothing", "Found: artifact", "Found: artifact, misalignment"]
    assert re.findall(r"<p class=found>([^<]*)</p>", text) == found
    assert '<p class="demonstration">This model is a demonstration: no &lt;photos&gt;.</p>' in text
    why = "<li>{}rtifact: the score is &lt; 0.5.</li><li>{}isalignment: no &lt;b&gt;; nothing else.</li>"
    assert re.findall("<ul class=why>(.*?)</ul>", text) == [
        why.format(*starts) for starts in (("No a", "No m"), ("A", "No m"), ("A", "M"))
    ]
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


@pytest.fixture
def browse(page, tmp_path):
    """The page's document once its script has run, for what stands behind # in the address."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")

    def run(view, *flags):
        common = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        common += ["--disable-background-networking", "--disable-component-update"]
        common += ["--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'browser'}"]
        address = f"{page.as_uri()}#{view}"
        done = subprocess.run(
            [CHROMIUM, *common, *flags, address], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("", ["one", "two", "three"]),
        ("sort=plausibility", ["three", "one", "two"]),
        ("sort=-plausibility", ["two", "one", "three"]),
        ("sort=-words", ["three", "two", "one"]),
        ("keep=plausibility&min=0.3", ["one", "two"]),
        ("keep=plausibility&max=0.6&sort=plausibility", ["three", "one"]),
        ("text=NUMBER+T", ["two", "three"]),
        ("found=artifact", ["two", "three"]),
        ("found=nothing", ["one"]),
    ],
)
def test_sorting_and_filtering(browse, view, expected):
    document = browse(view, "--dump-dom")
    cards = re.findall(r"<article ([^>]*)>.*?class=\"note\">([^<]*)<", document, re.DOTALL)
    assert [name for attributes, name in cards if "hidden" not in attributes] == expected
    shown = f"{len(expected)} shown" if len(expected) == 3 else f"{len(expected)} of 3 shown"
    assert f">{shown}</p>" in document


def test_the_maps_fade(browse, tmp_path):
    """What the slider sets is what is drawn: without the maps' colours the page has less of them."""
    colour = {}
    for opacity in (0, 100):
        picture = tmp_path / f"{opacity}.png"
        browse(f"opacity={opacity}", f"--screenshot={picture}", "--window-size=1200,1600")
        pixels = np.asarray(Image.open(picture).convert("RGB"), np.float32)
        colour[opacity] = float(np.ptp(pixels, axis=-1).mean())
    assert colour[100] > 1.2 * colour[0] > 0


DRIVE = """
<script>
URL.createObjectURL = (blob) => { blob.arrayBuffer().then((bytes) => {
  const codes = [...new Uint8Array(bytes)].map((code) => code.toString(16).padStart(2, "0")).join("");
  const found = document.createElement("pre");
  found.id = "bytes";
  found.textContent = codes;
  document.body.append(found);
}); return "#"; };
document.getElementById("csv").click();
const dialog = document.querySelector("dialog");
const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const seen = [dialog.open];
press(document.querySelector(".example:not([hidden]) figure"), "Enter");
seen.push(dialog.open, dialog.querySelector("figcaption").textContent, dialog.textContent.includes("one"));
press(dialog, "ArrowRight");
seen.push(dialog.querySelector("figcaption").textContent);
press(dialog, "ArrowLeft");
press(dialog, "ArrowLeft");
seen.push(dialog.querySelector(".about").textContent);
dialog.querySelector("button[value='0']").click();
seen.push(dialog.open);
const told = document.createElement("pre");
told.id = "seen";
told.textContent = JSON.stringify(seen);
document.body.append(told);
</script>
"""


def test_enlargement_and_the_table_that_the_page_saves(browse, page):
    page.write_text(page.read_text(encoding="utf-8") + DRIVE, encoding="utf-8")
    document = browse("", "--dump-dom")
    (seen,) = re.findall(r'<pre id="seen">(.*?)</pre>', document)
    assert json.loads(html.unescape(seen)) == [
        *(False, True, "Image", True),
        *("Implausibility predicted", "three", False),
    ]
    (codes,) = re.findall(r'<pre id="bytes">(.*?)</pre>', document)
    content = bytes.fromhex(codes)
    assert content.startswith(b"\xef\xbb\xbfid,image,prompt,")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    expected = ['\'=HYPERLINK("x"), 1', PROMPTS[1], "'-1+1", "a cat"]
    assert [row["prompt"] for row in rows] == expected
    assert [row["plausibility"] for row in rows] == ["0.5", "0.9", "0.1", ""]
    assert [row["has_artifact"] for row in rows] == ["false", "true", "true", ""]
    assert [row["misaligned_words"] for row in rows] == ["", "cat", "", ""]
    assert (rows[-1]["id"], rows[-1]["image"]) == ("</script>3", "zbad<.png")


def test_the_summary_counts_and_names_of_files_are_as_they_are(page):
    text = page.read_text(encoding="utf-8")
    facts = {"with feedback": "3", "without feedback": "1", "with artifact found": "2 of 3"}
    facts["with misaligned words"] = "1"
    for name, value in facts.items():
        assert f"<b>{value}</b> <span>{name}</span>" in text
    assert "median .5000, from .1000 to .9000" in text
    assert "misalignment found" not in text  # no verdict was given
    # What is upper case by style elsewhere is a file's name there.
    assert '<dl class="files"><dt>zbad&lt;.png</dt>' in text
    assert not re.search(r"(?<!\(\.files\) )\bdt::first-letter", text)
