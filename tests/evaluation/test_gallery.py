import numpy as np
import pytest

from richhf.evaluation import FeedbackArrays, Gallery
from richhf.evaluation.gallery import KINDS


def make_arrays(n, seed):
    rng = np.random.default_rng(seed)
    return FeedbackArrays(
        scores=rng.random((n, 4)).astype(np.float32),
        heatmaps=rng.random((n, 2, 8, 8)).astype(np.float32),
        keywords=["a red_0, cat" if seed else "a red cat_0"] * n,
        prompts=["a red, cat"] * n,
        filenames=[f"test/{i}.png" for i in range(n)],
        keyword_valid=np.arange(n) != 1,
    )


def picked(n=30, *, batch=30, **sizes):
    predicted, target = make_arrays(n, 0), make_arrays(n, 1)
    images = np.arange(n * 16 * 16 * 3, dtype=np.uint32).reshape(n, 16, 16, 3).astype(np.uint8)
    quality = np.random.default_rng(2).permutation(n) / n
    gallery = Gallery(**sizes)
    for start in range(0, n, batch):
        part = slice(start, start + batch)
        gallery.add(images[part], predicted.select(part), target.select(part), quality[part])
    return gallery.picks(), quality


def test_best_and_worst_are_those_in_order():
    picks, quality = picked(best=3, worst=4, random=0)
    order = np.argsort(quality)
    assert [example.filename for example in picks["best"]] == [f"test/{i}.png" for i in order[::-1][:3]]
    assert [example.filename for example in picks["worst"]] == [f"test/{i}.png" for i in order[:4]]
    assert picks["random"] == []


@pytest.mark.parametrize("batch", [1, 7])
def test_picks_do_not_depend_on_the_batches(batch):
    whole, parts = picked()[0], picked(batch=batch)[0]
    for kind in KINDS:
        assert [example.filename for example in parts[kind]] == [example.filename for example in whole[kind]]
        for one, other in zip(parts[kind], whole[kind], strict=True):
            assert one.truth == other.truth
            assert one.predicted == other.predicted
            np.testing.assert_array_equal(one.image, other.image)


def test_random_picks_follow_the_seed_and_the_order_of_the_split():
    names = [[e.filename for e in picked(random=6, seed=seed)[0]["random"]] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    numbers = [int(name.removeprefix("test/").removesuffix(".png")) for name in names[0]]
    assert numbers == sorted(numbers)


def test_random_picks_are_even():
    counts = np.zeros(10)
    for seed in range(100):
        for example in picked(10, best=0, worst=0, random=2, seed=seed)[0]["random"]:
            counts[int(example.filename[5:-4])] += 1
    # 20 expected each, deviation 4.
    assert counts.min() > 4
    assert counts.max() < 36


def test_equal_quality_keeps_the_first():
    predicted, target = make_arrays(5, 0), make_arrays(5, 1)
    gallery = Gallery(best=2, worst=2, random=0)
    gallery.add(np.zeros((5, 16, 16, 3), np.uint8), predicted, target, np.zeros(5))
    for kind in ("best", "worst"):
        assert [example.filename for example in gallery.picks()[kind]] == ["test/0.png", "test/1.png"]


def test_examples_carry_feedback_at_the_size_of_the_image():
    picks, _ = picked(best=30, worst=0, random=0)
    by_name = {example.filename: example for example in picks["best"]}
    example = by_name["test/0.png"]
    assert example.truth.misaligned_words == ("red",)
    assert example.predicted.misaligned_words == ("cat",)
    assert example.truth.words == ("a", "red", "cat")
    assert example.predicted.heatmaps["misalignment"].shape == example.image.shape[:2] == (16, 16)
    assert by_name["test/1.png"].truth.misaligned == ()
    assert example.truth.scores["overall"] == pytest.approx(make_arrays(30, 1).scores[0, 3])
