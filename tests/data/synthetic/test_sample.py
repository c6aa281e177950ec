import io

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from richhf.data.synthetic.concepts import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES
from richhf.data.synthetic.sample import make_sample, pool
from richhf.data.words import split_words
from richhf.feedback import HEATMAPS, SCORES, SPLITS

SEED = 11


@pytest.fixture(scope="module")
def samples():
    people = pool(SEED)
    return [make_sample(SEED, "test", index, size=64, people=people) for index in range(360)]


def test_examples_depend_on_seed_split_and_index_alone():
    people = pool(SEED)

    def image(seed, split, index):
        return make_sample(seed, split, index, size=64, people=people).record.image

    assert image(SEED, "train", 5) == image(SEED, "train", 5)
    assert len({image(SEED, split, 5) for split in SPLITS}) == len(SPLITS)
    assert image(SEED, "train", 5) != image(SEED + 1, "train", 5) != image(SEED, "train", 6)


def test_records_are_complete(samples):
    for sample in samples[:50]:
        record, truth = sample.record, sample.truth
        assert Image.open(io.BytesIO(record.image)).size == (64, 64)
        assert len(record.labels) == len(truth.labels) == len(split_words(record.prompt))
        for each in (record, truth):
            assert {heatmap.shape for heatmap in each.heatmaps.values()} == {(64, 64)}
            assert all(0 <= score <= 1 for score in each.scores.values())
        assert all(abs(score * 12 - round(score * 12)) < 1e-6 for score in record.scores.values())
        assert (record.filename, record.prompt) == (truth.filename, truth.prompt)


def test_true_maps_cover_the_faulty_pixels_and_little_else(samples):
    for name in HEATMAPS:
        covered = []
        for sample in samples:
            truth, masks = sample.truth.heatmaps[name], sample.regions[name]
            if not masks:
                assert not truth.any()
                continue
            faulty = np.any(masks, 0)
            covered.append((truth > 0)[faulty].mean())
            assert not truth[scipy.ndimage.distance_transform_edt(~faulty) > 64 / 20].any()
        assert np.mean(covered) > 0.97


def test_a_missing_object_leaves_the_true_map_empty(samples):
    alone = [s for s in samples if [fault.kind for fault in s.description.faults] == ["missing"]]
    assert alone
    for sample in alone:
        assert not sample.truth.heatmaps["misalignment"].any()
        assert 0 in sample.truth.labels
        assert sample.truth.scores["alignment"] < 0.8


def test_labels_are_exactly_the_false_claims(samples):
    for sample in samples:
        assert any(label == 0 for label in sample.truth.labels) == bool(sample.description.faults)


def test_faultless_examples(samples):
    for name, faults, score in (
        ("implausibility", lambda s: s.artifacts, "plausibility"),
        ("misalignment", lambda s: s.description.faults, "alignment"),
    ):
        clean = [sample for sample in samples if not faults(sample)]
        assert 0.07 < len(clean) / len(samples) < 0.19
        for sample in clean:
            assert sample.truth.scores[score] == 1
            assert not sample.truth.heatmaps[name].any()
        assert max(s.truth.scores[score] for s in samples if faults(s)) < 0.98


def test_worse_damage_is_less_plausible(samples):
    area = [sum(mask.sum() for mask in s.regions["implausibility"]) for s in samples]
    assert np.corrcoef(area, [s.truth.scores["plausibility"] for s in samples])[0, 1] < -0.7


def test_noise_ceilings_leave_room_between_chance_and_perfect(samples):
    """What a perfect model would score against the annotators; printed with `pytest -s`."""
    ceilings = {}
    for name in SCORES:
        pairs = [(s.truth.scores[name], s.record.scores[name]) for s in samples]
        ceilings[name] = np.corrcoef(np.array(pairs).T)[0, 1]
    for name in HEATMAPS:
        values = []
        for sample in samples:
            truth, label = (r.heatmaps[name].astype(float).ravel() for r in (sample.truth, sample.record))
            if label.any():
                values.append(np.corrcoef(truth, label)[0, 1] if truth.any() else 0.0)
        ceilings[name] = np.mean(values)
    truth, label = (
        np.concatenate([np.array(getattr(s, kind).labels) == 0 for s in samples])
        for kind in ("truth", "record")
    )
    ceilings["keywords"] = 2 * (truth & label).sum() / (truth.sum() + label.sum())
    print({name: round(float(value), 3) for name, value in ceilings.items()})
    for name in SCORES:
        assert 0.82 < ceilings[name] < 0.97, name
    assert 0.78 < ceilings["implausibility"] < 0.92
    assert 0.65 < ceilings["misalignment"] < 0.85
    assert 0.83 < ceilings["keywords"] < 0.95


def features_of(scene):
    """Counts of everything a scene shows."""
    concepts = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
    counts = [
        sum(getattr(group, name) == each for group in scene.groups)
        for name in concepts
        for each in concepts[name]
    ]
    return [*counts, len(scene.groups), len(scene.items), *(scene.background == name for name in BACKGROUNDS)]


def test_neither_image_nor_prompt_alone_tells_the_alignment():
    """A linear fit on all that the shown scene is made of, or on the words said, finds next to nothing."""
    people = pool(SEED)
    number = 500
    made = [make_sample(SEED, "train", index, size=32, people=people) for index in range(number)]
    alignment = np.array([sample.truth.scores["alignment"] for sample in made])
    shown = np.array([features_of(sample.scene) for sample in made], float)
    vocabulary = sorted({word for sample in made for word in split_words(sample.truth.prompt)})
    said = np.array([[split_words(s.truth.prompt).count(word) for word in vocabulary] for s in made], float)
    for features in (shown, said):
        features = np.concatenate([features, np.ones((number, 1))], 1)
        half = number // 2
        gram = features[:half].T @ features[:half] + 10 * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[:half].T @ alignment[:half])
        assert np.corrcoef(features[half:] @ weights, alignment[half:])[0, 1] < 0.25
