import collections
import html.parser
import re

import numpy as np
import pytest

from richhf.evaluation import ceiling_share
from richhf.feedback import HEATMAPS, SCORES, Feedback
from richhf.inference import GalleryExample, write_report
from richhf.inference.gallery import marked_prompt

VOID = {"meta", "img", "input", "br", "hr", "link", "source"}
PROMPT = 'two <script>alert(1)</script> cats & "dogs"'
WORDS = ("two", "<script>alert(1)</script>", "cats", "&", "dogs")


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and gathers attributes, tables (rows of cells) and marked words."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.attributes, self.tables = [], collections.defaultdict(list), []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.attributes[tag].append(dict(attrs))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if not self.get_starttag_text().endswith("/>") or self.stack[-1] == tag:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.stack):
            self.tables[-1][-1][-1] += data


def result(value):
    return {
        "scores": {
            name: {"plcc": value + 0.01 * i, "srcc": value - 0.01 * i} for i, name in enumerate(SCORES)
        },
        "heatmaps": {
            name: {
                "mse": 0.01234 + value / 1000,
                "mse_empty": 0.00123,
                "cc": value,
                "kld": 1.5 + value,
                "sim": value / 2,
                "nss": 3 * value,
                "auc_judd": 0.5 + value / 2,
            }
            for name in HEATMAPS
        },
        "keywords": {
            mean: {"precision": value, "recall": value / 2, "f1": value / 1.5}
            for mean in ("pooled", "per_sample")
        },
    }


def make_feedback(seed, misaligned):
    rng = np.random.default_rng(seed)
    return Feedback(
        PROMPT,
        {name: float(rng.random()) for name in SCORES},
        {name: rng.random((20, 30)).astype(np.float32) for name in HEATMAPS},
        WORDS,
        misaligned,
    )


def make_example(label="random", seed=0, truth=True):
    image = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    true = make_feedback(seed, (True, False, True, False, False))
    predicted = make_feedback(seed + 1, (True, True, False, False, False))
    return GalleryExample(image, true if truth else None, predicted, label, note="test/<7>.png")


def everything():
    rng = np.random.default_rng(0)
    steps = range(10, 1000, 10)
    return dict(
        title="Tiny <model>",
        metrics={
            "model": result(0.4321),
            "mean_baseline": result(0.0),
            "noise_ceiling": result(0.8642),
            "ceiling_share": ceiling_share(result(0.4321), result(0.8642)),
            "flag_every_word": {"keywords": result(0.1)["keywords"]},
            "split": "dev",
            "compare": {"other & run": result(0.25)},
            "examples": 1000,
        },
        curves=[
            *(
                {"step": s, "seconds": 1.0, "loss": 100 / s, "loss/keywords": 50 / s, "learning_rate": 1e-3}
                for s in steps
            ),
            {"step": 500, "eval/dev/loss": 0.3, "eval/dev/accuracy": 0.5, "note": "text", "loss": None},
        ],
        examples=[make_example(label, i) for i, label in enumerate(("best", "random", "worst", "my own"))],
        points={name: (rng.random(40), rng.integers(0, 13, 40) / 12) for name in SCORES},
        extra={"Command": "python -m launch.eval --gin.A='<b>'", "Steps": 100},
    )


def printed(value, digits=3):
    return f"{value:.{digits}f}".replace("-", "−").replace("−0.", "−.").removeprefix("0")


def write(tmp_path, **changes):
    path = write_report(tmp_path / "sub" / "report.html", **({"title": "T"} | changes))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page_text(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"), **everything())


@pytest.fixture(scope="module")
def page(page_text):
    return Page(page_text)


def test_the_page_needs_nothing_but_itself(page, page_text):
    assert not re.search(r"https?:|@import|url\((?!data:)(?!var)", page_text)
    sources = [
        a
        for tag in page.attributes.values()
        for attrs in tag
        for a in attrs.items()
        if a[0] in ("src", "href")
    ]
    assert sources
    assert all(value.startswith(("data:image/", "#")) for _, value in sources)
    assert "link" not in page.attributes


def test_every_link_has_its_section(page):
    targets = {attrs["href"].removeprefix("#") for attrs in page.attributes["a"]}
    assert targets == {attrs["id"] for attrs in page.attributes["section"] if "id" in attrs}
    assert targets == {"example", "glance", "metrics", "scores", "curves", "gallery", "provenance"}


def test_every_picture_is_described(page):
    assert page.attributes["img"]
    assert all(attrs.get("alt") for attrs in page.attributes["img"])
    assert all(attrs.get("aria-label") for attrs in page.attributes["svg"])


def test_the_four_tables_hold_every_value(page):
    scores, implausibility, misalignment, keywords = page.tables

    def row(table, name):
        return next(cells[1:] for cells in table if cells[0] == name)

    names = ("Predict the mean", "other & run", "This model", "Noise ceiling")
    for name, value in zip(names, (0.0, 0.25, 0.4321, 0.8642), strict=True):
        r = result(value)
        assert row(scores, name) == [printed(r["scores"][s][m]) for s in SCORES for m in ("plcc", "srcc")]
        for table in (implausibility, misalignment):
            h = r["heatmaps"]["misalignment"]
            expected = [printed(h["mse"], 5), printed(h["mse_empty"], 5)]
            expected += [printed(h[key]) for key in ("cc", "kld", "sim", "nss", "auc_judd")]
            assert row(table, name) == expected
        k = [f"{100 * r['keywords']['pooled'][key]:.1f}" for key in ("precision", "recall", "f1")]
        assert row(keywords, name) == k * 2
    assert row(keywords, "Flag every word") == ["10.0", "5.0", "6.7"] * 2
    assert all(cells[0] != "Flag every word" for table in page.tables[:3] for cells in table)
    # 0.4321 is half of 0.8642; MSE and KLD have no share; AUC-Judd counts from one half.
    assert row(misalignment, "Share of ceiling") == ["–", "–", "50\u202f%", "–", *["50\u202f%"] * 3]


def test_the_page_names_the_split(page_text, tmp_path):
    assert "Measured on 1,000 images of the dev split." in page_text
    assert "test images" not in page_text
    text = write(tmp_path, metrics={"model": result(0.5), "examples": 7})
    assert "Measured on 7 images." in text


def test_the_best_measured_value_is_bold_and_the_ceiling_never(page_text):
    row = re.search(r'<tr class="model">(.*?)</tr>', page_text)[1]
    assert row.count("<strong>") == row.count("<td")
    assert "<strong>" not in re.search(r'<tr class="ceiling">(.*?)</tr>', page_text)[1]
    table = page_text.split("<h3>Implausibility heatmap</h3>")[1].split("</table>")[0]
    rows = dict(re.findall(r'<tr class="(\w+)">(.*?)</tr>', table))
    kld = {kind: re.findall(r"<td[^>]*>(.*?)</td>", cells)[3] for kind, cells in rows.items()}
    assert kld["baseline"] == "<strong>1.500</strong>"  # lower is better
    assert "strong" not in kld["model"]


def test_the_ends_of_the_intervals_stand_under_the_model_and_are_never_bold(tmp_path):
    def interval(value):
        return {k: interval(v) for k, v in value.items()} if isinstance(value, dict) else [0.1, 0.9]

    intervals = interval(result(0.5))
    intervals["scores"]["overall"]["srcc"] = None
    metrics = {"model": result(0.5), "mean_baseline": result(0.2), "intervals": intervals}
    text = write(tmp_path, metrics=metrics)
    scores = Page(text).tables[0]
    at = [row[0] for row in scores].index("This model")
    assert [row[0] for row in scores[at + 1 :]] == ["95 % from", "95 % to"]
    assert scores[at + 1][1:] == [".100"] * 7 + ["–"]
    assert scores[at + 2][1:] == [".900"] * 7 + ["–"]
    assert not any("strong" in row for row in re.findall(r'<tr class="interval">(.*?)</tr>', text))


def test_undefined_values_are_dashes(tmp_path):
    model = result(0.5)
    model["scores"]["overall"] = {"plcc": None, "srcc": float("nan")}
    del model["heatmaps"]["misalignment"]
    text = write(tmp_path, metrics={"model": model, "mean_baseline": None})
    scores, _, misalignment, _ = Page(text).tables
    assert scores[-1][-2:] == ["–", "–"]
    assert misalignment[-1] == ["This model", *["–"] * 7]
    assert "Share of ceiling" not in text
    assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize("left_out", ["metrics", "curves", "examples", "points", "extra"])
def test_every_part_may_be_missing(tmp_path, left_out):
    arguments = everything()
    del arguments[left_out]
    page = Page(write(tmp_path, **arguments))
    gone = {
        "metrics": {"glance", "metrics"},
        "curves": {"curves"},
        "examples": {"gallery", "example"},
        "points": {"scores"},
        "extra": {"provenance"},
    }[left_out]
    assert not gone & {attrs["href"].removeprefix("#") for attrs in page.attributes["a"]}


def test_a_page_with_a_title_alone(tmp_path):
    assert "<h1>Alone</h1>" in write(tmp_path, title="Alone")


def test_what_people_wrote_is_escaped(page, page_text):
    assert len(page.attributes["script"]) == 1
    assert "<script>alert" not in page_text
    for text in (
        "Tiny &lt;model&gt;",
        "test/&lt;7&gt;.png",
        "--gin.A=&#x27;&lt;b&gt;&#x27;",
        "other &amp; run",
    ):
        assert text in page_text


def test_words_carry_the_verdict_on_them():
    example = make_example()
    text = marked_prompt(example.predicted, example.truth)
    marks = re.findall(r'<mark class="(\w+)">(.*?)<span> (.*?)</span></mark>', text)
    assert marks == [
        ("hit", "two", "found"),
        ("false", "&lt;script&gt;alert(1)&lt;/script&gt;", "false alarm"),
        ("miss", "cats", "missed"),
    ]
    unmarked = html.unescape(re.sub(r"<span>.*?</span>|<[^>]*>", "", text))
    assert unmarked == PROMPT


def test_without_truth_words_are_marked_as_predicted(tmp_path):
    example = make_example(truth=False)
    marks = re.findall(r'<mark class="(\w+)">', marked_prompt(example.predicted, None))
    assert marks == ["marked", "marked"]
    text = write(tmp_path, examples=[example])
    assert "true" not in re.findall(r"<figcaption><b>\w+</b> (\w+)", text)
    assert "largest score error" not in text


def test_a_word_that_is_not_in_the_prompt_is_an_error():
    feedback = Feedback("a cat", words=("a", "dog"), misaligned=(False, True), image_size=(4, 4))
    with pytest.raises(ValueError, match="Word 1 'dog'"):
        marked_prompt(feedback, None)


def test_groups_come_in_order_and_hold_all_examples(page, page_text):
    kinds = [attrs["data-kind"] for attrs in page.attributes["section"] if "data-kind" in attrs]
    assert kinds == ["random", "best", "worst", "my own"]
    assert page_text.count('<article class="example"') == 4 + 1  # the first section shows one once more
    assert {attrs["data-show"] for attrs in page.attributes["button"]} == {"*", *kinds}


def test_an_example_has_two_maps_twice_and_four_scores(tmp_path):
    page = Page(write(tmp_path, examples=[make_example()]))
    alts = [attrs["alt"] for attrs in page.attributes["img"]]
    assert alts[0] == f"Image generated for: {PROMPT}"
    assert [alt.split(" map:")[0] for alt in alts[1:]] == [
        f"{who} {name}" for name in HEATMAPS for who in ("true", "predicted")
    ]
    bars = [attrs["aria-label"] for attrs in page.attributes["span"] if attrs.get("role") == "img"]
    assert [bar.split(":")[0] for bar in bars] == list(SCORES)
    sizes = {(attrs["width"], attrs["height"]) for attrs in page.attributes["img"]}
    assert sizes == {("30", "20")}


def test_curves_join_held_out_values_and_fold_the_rest_away(page_text):
    assert "Total loss</b>" in page_text
    assert 'class="series-1">dev 0.3<' in page_text
    assert "2 more curves" in page_text  # learning rate and dev's accuracy
    assert (
        page_text.index("Total loss</b>") < page_text.index("Keywords</b>") < page_text.index("more curves")
    )


def test_the_same_arguments_give_the_same_bytes(tmp_path, page_text):
    assert write(tmp_path, **everything()) == page_text


def test_a_failing_report_leaves_the_old_one(tmp_path):
    before = write(tmp_path, title="old")
    with pytest.raises(ValueError, match="points has 'plausability'"):
        write(tmp_path, points={"plausability": (np.zeros(2), np.zeros(2))})
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["report.html"]
    assert (tmp_path / "sub" / "report.html").read_text() == before
