"""What a prediction says beyond values: findings, confidences, its image, a notebook's view."""

import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, SCORES, Feedback

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
    feedback = make_feedback(heatmaps=dict.fromkeys(HEATMAPS, heatmap))
    assert (feedback.has_artifact, feedback.has_misalignment) == (found, found)
    told = feedback.to_dict()
    assert (told["has_artifact"], told["has_misalignment"]) == (found, found)


def test_without_a_map_the_score_decides():
    feedback = make_feedback(heatmaps={}, image_size=(4, 4))
    assert (feedback.has_artifact, feedback.has_misalignment) == (False, True)


@pytest.mark.parametrize("changes", [dict(thresholds={}), dict(heatmaps={}, scores={}, image_size=(4, 4))])
def test_without_a_threshold_or_an_output_nothing_decides(changes):
    feedback = make_feedback(**changes)
    with pytest.raises(ValueError, match="expected the implausibility map or the plausibility score"):
        _ = feedback.has_artifact
    assert feedback.to_dict()["has_misalignment"] is None


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
}


@pytest.mark.parametrize("version", [1, 2])
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
    calm = make_feedback(thresholds={"plausibility": 0.1}, heatmaps={}, image_size=(24, 32))
    assert Reader(calm._repr_html_()).text.endswith("Found: nothing")


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
