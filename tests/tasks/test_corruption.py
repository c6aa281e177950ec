import numpy as np
import pytest
import seqio

import tasks.synthetic
from richhf import feedback
from richhf.data import words
from tasks.corruption import Lexicon, corrupt_prompt, corrupt_prompts

CATEGORIES = {
    "colour": {"red": ["red", "scarlet"], "orange": ["orange"], "blue": ["blue"]},
    "shape": {"star": ["star"], "box": ["box", "square"]},
    "lonely": {"lonely": ["above"]},
}
LEXICON = Lexicon(CATEGORIES)
CONCEPT = {
    w: (category, concept)
    for category, concepts in CATEGORIES.items()
    for concept, group in concepts.items()
    for w in group
}


def test_replaces_one_or_two_aligned_words_within_their_category():
    prompt, flags = "a red square, above a blue star", (False,) * 6 + (True,)
    counts = set()
    for seed in range(60):
        new, new_flags = corrupt_prompt(prompt, flags, LEXICON, np.random.default_rng(seed))
        old_words, new_words = words.split_words(prompt), words.split_words(new)
        changed = [i for i, flag in enumerate(new_flags) if flag and not flags[i]]
        counts.add(len(changed))
        for i in changed:
            (category, concept), (new_category, new_concept) = CONCEPT[old_words[i]], CONCEPT[new_words[i]]
            assert category == new_category
            assert concept != new_concept
        kept = set(range(7)) - set(changed)
        assert all(old_words[i].rstrip("n") == new_words[i].rstrip("n") for i in kept)
        assert new_flags[6]
    assert counts == {1, 2}


def test_articles_and_capitals_follow():
    for seed in range(20):
        new, flags = corrupt_prompt("An orange", (False, False), LEXICON, np.random.default_rng(seed))
        assert new in ("A red", "A scarlet", "A blue")
        assert flags == (False, True)
        new, _ = corrupt_prompt("Red", (False,), LEXICON, np.random.default_rng(seed))
        assert new in ("Orange", "Blue")


@pytest.mark.parametrize(("prompt", "flags"), [("a thing above", (False,) * 3), ("red star", (True, True))])
def test_nothing_to_replace_changes_nothing(prompt, flags):
    assert corrupt_prompt(prompt, flags, LEXICON, np.random.default_rng(0)) == (prompt, flags)


def stream(folder, *, split="train", shuffle=True, seed=0, epochs=3, name="synthetic_multi_head", **kwargs):
    tasks.synthetic.register(folder, **kwargs)
    task = seqio.TaskRegistry.get(name)
    lengths = {"image": 16, "inputs": 40, "targets": 40}
    dataset = task.get_dataset(lengths, split=split, shuffle=shuffle, seed=seed, num_epochs=epochs)
    return list(dataset.as_numpy_iterator())


def is_corrupt(example) -> bool:
    return example["score_weights"][feedback.SCORES.index("alignment")] == 0


def test_training_stream_is_corrupted_at_the_rate_with_labels_masked(folder):
    plain = {example["filename"]: example for example in stream(folder, epochs=1)}
    examples = stream(folder, corruption_rate=0.5)
    corrupt = [example for example in examples if is_corrupt(example)]
    assert len(examples) == 120
    assert 35 < len(corrupt) < 85
    for example in examples:
        original = plain[example["filename"]]
        if is_corrupt(example):
            assert example["prompt"] != original["prompt"]
            np.testing.assert_array_equal(example["shown_tokens"], original["shown_tokens"])
            assert example["targets_pretokenized"].count(b"_0") > original["targets_pretokenized"].count(
                b"_0"
            )
            np.testing.assert_array_equal(example["score_weights"], [1, 0, 1, 0])
            np.testing.assert_array_equal(example["heatmap_weights"], [1, 0])
        else:
            assert example["prompt"] == original["prompt"]
            np.testing.assert_array_equal(example["targets"], original["targets"])
            assert example["score_weights"].all()
            assert example["heatmap_weights"].all()


def test_same_seed_same_corruption_and_each_epoch_its_own(folder):
    prompts = [example["prompt"] for example in stream(folder, corruption_rate=0.5)]
    again = [example["prompt"] for example in stream(folder, corruption_rate=0.5)]
    other = [example["prompt"] for example in stream(folder, corruption_rate=0.5, seed=1)]
    assert prompts == again != other
    assert sorted(prompts[:40]) != sorted(prompts[40:80])


def test_it_stops_at_its_example_counted_over_epochs(folder):
    examples = stream(folder, corruption_rate=1.0, corrupt_until_example=50)
    assert sum(map(is_corrupt, examples[:50])) > 40
    assert not any(map(is_corrupt, examples[50:]))


def test_copy_phase_hides_the_flags_from_the_target_only(folder):
    examples = stream(folder, copy_until_example=50)
    vocabulary = seqio.TaskRegistry.get("synthetic_multi_head").output_features["targets"].vocabulary
    texts = [vocabulary.decode(example["targets"].tolist()) for example in examples]
    assert texts[:50] == [example["prompt"].decode() for example in examples[:50]]
    assert texts[50:] == [example["targets_pretokenized"].decode() for example in examples[50:]]
    assert any((example["word_labels"] == 1).any() for example in examples[:50])


@pytest.mark.parametrize(("split", "shuffle"), [("train", False), ("dev", False), ("dev", True)])
def test_evaluation_is_never_corrupted(folder, split, shuffle):
    settings = {"corruption_rate": 1.0, "copy_until_example": 1000}
    examples = stream(folder, split=split, shuffle=shuffle, epochs=1, **settings)
    plain = stream(folder, split=split, shuffle=shuffle, epochs=1)
    for example, original in zip(examples, plain, strict=True):
        assert example.keys() == original.keys()
        for name in example:
            np.testing.assert_array_equal(example[name], original[name])


def test_wrong_rate_and_missing_lexicon_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"corruption rate is 1\.5"):
        corrupt_prompts("lexicon.json", rate=1.5)
    with pytest.raises(ValueError, match=r"lexicon\.json does not exist"):
        Lexicon.load(tmp_path / "lexicon.json")


def test_a_hidden_prompt_leaves_the_end_mark_alone(folder):
    for example in stream(folder, split="dev", shuffle=False, epochs=1, see_prompt=False):
        np.testing.assert_array_equal(example["inputs"][0, :2], [1, 0])
        assert len(example["targets"]) > 2
