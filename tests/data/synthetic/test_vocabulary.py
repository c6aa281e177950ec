import pytest
import sentencepiece

from richhf.data.synthetic.vocabulary import grammar_words, train_vocabulary
from richhf.data.words import mark_misaligned
from richhf.feedback import TASK_STRINGS

PROMPTS = [
    "a small red circle above two striped stars.",
    "we see a pair of hearts, on a night background",
] * 20
FLAGS = [[0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0, 1, 0]] * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    train_vocabulary(path, PROMPTS, [flags[: len(flags)] for flags in fitted()])
    return path


def fitted():
    return [flags[: len(prompt.split())] for prompt, flags in zip(PROMPTS, FLAGS, strict=True)]


@pytest.fixture(scope="module")
def pieces(model):
    return sentencepiece.SentencePieceProcessor(model_file=str(model))


def test_special_pieces(pieces):
    assert (pieces.pad_id(), pieces.eos_id(), pieces.unk_id(), pieces.bos_id()) == (0, 1, 2, -1)


def test_every_word_of_the_grammar_is_one_piece(pieces):
    for word in [*grammar_words(), *" ".join(TASK_STRINGS.values()).split()]:
        assert len(pieces.encode(word)) == 1, word


def test_marks_are_a_piece_of_their_own_and_survive_the_way_back(pieces):
    for prompt, flags in zip(PROMPTS[:2], fitted()[:2], strict=True):
        marked = mark_misaligned(prompt, [bool(flag) for flag in flags])
        tokens = pieces.encode(marked)
        assert tokens.count(pieces.piece_to_id("_0")) == sum(flags)
        assert pieces.unk_id() not in tokens
        assert pieces.decode(tokens) == marked


def test_equal_prompts_give_equal_bytes(model, tmp_path):
    train_vocabulary(tmp_path / "again.model", PROMPTS, fitted())
    assert (tmp_path / "again.model").read_bytes() == model.read_bytes()


def test_no_prompts_still_give_every_word(tmp_path):
    train_vocabulary(tmp_path / "empty.model", [], [])
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "empty.model"))
    assert len(pieces.encode("a big pentagram")) == 3
