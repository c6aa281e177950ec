import itertools

from hypothesis import given
from hypothesis import strategies as st

from richhf.data.targets import find_marks
from richhf.data.word_alignment import align_words
from richhf.data.words import mark_misaligned

WORDS = ("yellow", "kitten", "above", "purple", "stone", "bridge", "with", "dancer", "umbrella", "fog")
FOREIGN = "zzzz"
SLIPS = ("drop", "repeat", "insert", "misspell", "none")


@given(st.permutations(WORDS), st.lists(st.tuples(st.booleans(), st.sampled_from(SLIPS), st.integers(0, 7))))
def test_slips_of_copying_leave_every_flag_with_its_word(words, slips):
    """Distinct words, and a slip at some of them."""
    text, expected = [], []
    for word, (flag, slip, place) in zip(words, slips, strict=False):
        marked = mark_misaligned(word, [flag])
        if slip == "misspell":
            place = min(place, len(word) - 1)
            marked = marked[:place] + word[place] + marked[place:]
        text += {"drop": [], "repeat": [marked] * 2, "insert": [marked, FOREIGN + "_0"]}.get(slip, [marked])
        expected.append(flag and slip != "drop")
    found = find_marks(" ".join(words[: len(expected)]), " ".join(text))
    assert tuple(map(bool, found)) == tuple(expected)


@given(st.lists(st.sampled_from(["red", "box"]), min_size=1, max_size=12), st.data())
def test_a_word_left_out_of_many_alike_moves_no_flag_beyond_its_run(words, data):
    flags = [data.draw(st.booleans()) for _ in words]
    gone = data.draw(st.integers(0, len(words) - 1))
    text = [mark_misaligned(word, [flag]) for word, flag in zip(words, flags, strict=True)]
    found = find_marks(" ".join(words), " ".join(text[:gone] + text[gone + 1 :]))
    runs = [list(run) for _, run in itertools.groupby(range(len(words)), key=lambda i: words[i])]
    for run in runs:
        if gone not in run:
            assert [found[i] for i in run] == [flags[i] for i in run]
        else:
            assert sum(bool(found[i]) for i in run) == sum(flags[i] for i in run if i != gone)


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_as_many_words_as_possible_find_their_copy(words, copies):
    """Words of one letter are similar to none but their equal: then it is the longest common subsequence."""
    found = [copy and copy.position for copy in align_words(words, copies)]
    pairs = [(i, j) for i, j in enumerate(found) if j is not None]
    assert all(words[i] == copies[j] for i, j in pairs)
    assert [j for _, j in pairs] == sorted({j for _, j in pairs})
    assert len(pairs) == longest_common(words, copies)


def longest_common(words, copies):
    if not words or not copies:
        return 0
    if words[0] == copies[0]:
        return 1 + longest_common(words[1:], copies[1:])
    return max(longest_common(words[1:], copies), longest_common(words, copies[1:]))
