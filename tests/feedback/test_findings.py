"""What a prediction says beyond values: findings, confidences, its image, a notebook's view."""

import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, SCORES, VERDICTS, Feedback, Rule
from richhf.feedback.findings import EVIDENCE_OF, OUTPUTS_OF

WORDS = ("a", "<b>bold</b>", "cat")


def make_feedback(**changes):
    rng = np.random.default_rng(0)
    fields = dict(
        prompt='a <b>bold</b> "cat"',
        scores=dict.fromkeys(SCORES, 0.25),
        heatmaps={name: rng.random((12, 16), np.float32) for name in HEATMAPS},
        words=WORDS,
        misaligned=(False, True, False),
        word_confidences=(0.1, 0.8, 0.25),
        keywords_text='a <b>bold</b>_0 "cat"',
        thresholds={"implausibility": 0.5, "misalignment": 0.5, "plausibility": 0.25, "alignment": 0.5},
        image=np.full((24, 32, 3), 90, np.uint8),
    )
    return Feedback(**(fields | changes))


@pytest.mark.parametrize(("peak", "found"), [(0.49, False), (0.5, True), (0.9, True)])
def test_the_peak_of_a_map_decides(peak, found):
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 2] = peak
    feedback = make_feedback(heatmaps=dict.fromkeys(HEATMAPS, heatmap), misaligned=(False,) * 3)
    assert (feedback.has_artifact, feedback.has_misalignment) == (found, found)
    told = feedback.to_dict()
    assert (told["has_artifact"], told["has_misalignment"]) == (found, found)


def test_without_a_map_the_score_decides():
    feedback = make_feedback(heatmaps={}, image_size=(4, 4))
    assert (feedback.has_artifact, feedback.has_misalignment) == (False, True)


NOTHING = dict(heatmaps={}, scores={}, misaligned=(), word_confidences=(), image_size=(4, 4))


@pytest.mark.parametrize("changes", [dict(thresholds={}), NOTHING])
def test_without_a_threshold_or_an_output_nothing_decides(changes):
    feedback = make_feedback(**changes)
    with pytest.raises(ValueError, match="it needs one of implausibility, plausibility, but the outputs are"):
        _ = feedback.has_artifact
    assert feedback.to_dict()["has_misalignment"] is None


def make_rule(verdict, *outputs, threshold=0.5, bias=-3.0, **weights):
    names = [name for output in outputs for name in EVIDENCE_OF[output]]
    given = {name.replace("_", " "): weight for name, weight in weights.items()}
    return Rule(verdict, dict.fromkeys(names, 4.0) | given, bias, threshold)


RULES = tuple(
    make_rule(verdict, *some)
    for verdict, outputs in OUTPUTS_OF.items()
    for some in (outputs, *((output,) for output in outputs))
)


def judged(peak=0.0, score=1.0, flags=(False,) * 3, confidences=(0.0, 0.0, 0.0), **changes):
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 2] = peak
    fields = dict(
        heatmaps=dict.fromkeys(HEATMAPS, heatmap),
        scores=dict.fromkeys(SCORES, score),
        misaligned=flags,
        word_confidences=confidences,
        rules=RULES,
    )
    return make_feedback(**(fields | changes))


def test_a_rule_weighs_all_outputs_of_its_kind():
    assert judged().verdicts == dict.fromkeys(VERDICTS, False)
    for strong in (dict(peak=0.9), dict(score=0.0)):
        found = judged(**strong).findings
        assert [finding.verdict for finding in found.values()] == [True, True]
    assert judged(peak=0.9, scores={}).has_artifact
    assert judged(score=0.0, heatmaps={}, image_size=(4, 4)).has_artifact
    weak = judged(peak=0.3, score=0.65).findings["has_artifact"]
    assert weak.verdict
    assert weak.probability == pytest.approx(1 / (1 + np.exp(-(-3 + 4 * (0.3 + np.sqrt(0.3 / 16) + 0.35)))))
    assert weak.reasons == (f"together this makes a probability of {weak.probability:.2f} (threshold 0.50)",)
    assert judged(confidences=(0.0, 0.45, 0.0), score=0.7).has_misalignment
    assert not judged(confidences=(0.0, 0.45, 0.0), score=0.7).has_artifact


@pytest.mark.parametrize("rules", [RULES, ()])
@pytest.mark.parametrize("outputs", [HEATMAPS, SCORES, ()])
def test_a_flagged_word_is_a_misalignment_whatever_else_is_predicted(rules, outputs):
    clean = judged(flags=(False, False, True), confidences=(0.0, 0.0, 0.5), rules=rules)
    some = clean.replace(
        heatmaps={name: value for name, value in clean.heatmaps.items() if name in outputs},
        scores={name: value for name, value in clean.scores.items() if name in outputs},
    )
    finding = some.findings["has_misalignment"]
    assert finding.verdict
    assert finding.reasons[0] == 'the word "cat" is flagged'
    assert some.to_dict()["has_misalignment"]
    many = some.replace(misaligned=(True, True, True)).findings["has_misalignment"]
    assert many.reasons[0] == 'the words "a", "<b>bold</b>" and "cat" are flagged'


def test_every_verdict_has_reasons():
    rng = np.random.default_rng(3)
    for _ in range(200):
        peak, score, *confidences = rng.random(5).tolist()
        feedback = judged(peak, score, tuple((rng.random(3) < 0.1).tolist()), tuple(confidences))
        for finding in feedback.findings.values():
            assert all(finding.reasons)
            supporting = [
                ("flagged" in reason and not reason.startswith("no "))
                or ("peaks" in reason and "below" not in reason)
                or ("score is" in reason and "below" in reason)
                or "together" in reason
                for reason in finding.reasons
            ]
            assert any(supporting) or not finding.verdict
        if not any(feedback.misaligned):
            assert "no word is flagged" in feedback.findings["has_misalignment"].reasons


def test_what_speaks_against_a_verdict_is_said():
    rules = (make_rule("has_artifact", "implausibility", "plausibility", bias=-6.0),)
    finding = judged(peak=0.6, score=0.9, rules=rules).findings["has_artifact"]
    assert not finding.verdict
    assert finding.reasons == (
        "the implausibility map peaks at 0.60 (threshold 0.50)",
        f"together this makes a probability of {finding.probability:.2f}, below the threshold 0.50",
        "the plausibility score is 0.90 (threshold 0.25)",
    )
    close = judged(peak=0.498, rules=()).findings["has_artifact"]
    assert close.reasons == ("the implausibility map peaks at 0.4980, below the threshold 0.5000",)


def test_rules_are_saved_and_told(tmp_path):
    feedback = judged(peak=0.7, flags=(False, True, False))
    path = feedback.save(tmp_path)
    assert Feedback.load(tmp_path) == feedback
    assert Feedback.load(tmp_path).findings == feedback.findings
    finding = json.loads(path.read_text())["findings"]["has_misalignment"]
    assert finding["verdict"] is True
    assert finding["reasons"] == list(feedback.findings["has_misalignment"].reasons)
    assert finding["probability"] == feedback.findings["has_misalignment"].probability


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(verdict="has_artefact"), "'has_artefact': did you mean 'has_artifact'"),
        (dict(weights={"misalignment peak": 1.0}), "weighs 'misalignment peak'"),
        (dict(weights={"plausibility": -1.0}), "expected a number of 0 or more"),
        (dict(weights={}), "weighs nothing; expected all the evidence"),
        (dict(weights={"implausibility peak": 1.0}), "expected all the evidence of each output"),
        (dict(threshold=1.5), r"expected a number, and one in \[0, 1\]"),
        (dict(bias=float("nan")), "expected a number"),
        (dict(bias="1"), "expected numbers"),
        (dict(more=1), "expected an object with verdict, weights, bias, threshold"),
    ],
)
def test_a_wrong_rule_is_refused(changes, message):
    right = make_rule("has_artifact", "plausibility").to_dict()
    assert Rule.from_dict(right).to_dict() == right
    with pytest.raises(ValueError, match=message):
        Rule.from_dict(right | changes)


def test_the_image_that_is_known_is_drawn_on(tmp_path):
    feedback = make_feedback()
    assert feedback.overlay("implausibility").size == (32, 24)
    assert feedback.overlay("implausibility", Image.new("L", (5, 6))).size == (5, 6)
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    by_path = make_feedback(image=tmp_path / "image.png")
    assert by_path.overlay("misalignment").size == (40, 30)
    assert by_path == feedback
    with pytest.raises(ValueError, match="does not know its image"):
        make_feedback(image=None).overlay("misalignment")


def test_what_a_prediction_adds_is_saved_and_compared(tmp_path):
    feedback = make_feedback()
    feedback.save(tmp_path)
    loaded = Feedback.load(tmp_path)
    assert loaded == feedback
    assert loaded.image is None
    assert (tmp_path / "implausibility_overlay.png").exists()
    for changes in (dict(word_confidences=()), dict(keywords_text=None), dict(thresholds={})):
        assert make_feedback(**changes) != feedback


SINCE = {
    2: ("word_confidences", "keywords_text", "thresholds", "has_artifact", "has_misalignment"),
    3: ("covered", "uncovered_words"),
    4: ("rules", "findings"),
}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_an_older_version_saved_is_read(tmp_path, version):
    unknown = dict(word_confidences=(), keywords_text=None, thresholds={}) if version == 1 else {}
    path = make_feedback(**unknown).save(tmp_path)
    told = json.loads(path.read_text())
    for name in (name for since, names in SINCE.items() if since > version for name in names):
        del told[name]
    path.write_text(json.dumps(told | {"format": version}))
    assert Feedback.load(tmp_path) == make_feedback(**unknown)


@pytest.mark.parametrize("confidences", [(0.5,), (0.5, 0.5, 1.5), (0.5, float("nan"), 0.5)])
def test_confidences_are_probabilities_of_the_words(confidences):
    with pytest.raises(ValueError, match=r"word_confidences.*expected (one a word|probabilities)"):
        make_feedback(word_confidences=confidences)


class Reader(html.parser.HTMLParser):
    """Collects tags, and checks that each that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_notebook_shows_image_maps_words_and_scores():
    page = Reader(make_feedback()._repr_html_())
    assert len(page.sources) == 1 + len(HEATMAPS)
    assert all(
        source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for source in page.sources
    )
    assert "b" not in page.tags
    assert "<b>bold</b>" in page.text
    assert page.tags.count("mark") == 1
    assert all(re.search(rf"{name}\s*0\.25", page.text) for name in SCORES)
    assert "Found: artifact, misalignment" in page.text
    assert 'Misalignment: the word "<b>bold</b>" is flagged; the misalignment map peaks at' in page.text
    calm = make_feedback(
        thresholds={"plausibility": 0.1}, heatmaps={}, misaligned=(False,) * 3, image_size=(24, 32)
    )
    expected = "Found: nothingNo artifact: the plausibility score is 0.25 (threshold 0.10)."
    assert Reader(calm._repr_html_()).text.endswith(expected)


def test_a_notebook_shows_which_words_are_not_covered():
    page = make_feedback(covered=(True, True, False), word_confidences=(0.1, 0.8, None))._repr_html_()
    assert re.search(r'underline dotted" title="not covered by the feedback">cat<', page)
    scores_alone = make_feedback(misaligned=(), word_confidences=(), covered=(True, False, False))
    assert scores_alone._repr_html_().count("not covered") == 2


def test_a_notebook_shows_what_there_is(tmp_path):
    gone = make_feedback(image=tmp_path / "gone.png")._repr_html_()
    assert len(Reader(gone).sources) == len(HEATMAPS)
    bare = Reader(
        make_feedback(heatmaps={}, scores={}, misaligned=(), image=None, image_size=(4, 4))._repr_html_()
    )
    assert bare.sources == []
    assert bare.text == 'a <b>bold</b> "cat"'
