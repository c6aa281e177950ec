"""The SentencePiece vocabulary of a synthetic set: whole words of the grammar and the suffix `_0`."""

import io
import os
from collections.abc import Sequence

import sentencepiece

from richhf.atomic import atomic_path
from richhf.data.synthetic import concepts, grammar
from richhf.data.words import mark_misaligned
from richhf.feedback import MISALIGNED_SUFFIX, TASK_STRINGS

SIZE = 400
MOST_PROMPTS = 20_000


def train_vocabulary(
    path: str | os.PathLike, prompts: Sequence[str], flags: Sequence[Sequence[int]], *, size: int = SIZE
) -> None:
    """Trains a unigram vocabulary on prompts, plain and marked, and the task strings; writes it to `path`.

    Padding is piece 0, end of sequence 1, unknown 2; there is no begin of sequence; `_0` is one piece. Every
    word of the grammar is in the training text, so that small sets have no unknown words. Equal prompts give
    an equal file.

    Args:
      path: where the model file goes.
      prompts: training prompts; the first 20,000 are used.
      flags: for every word of each prompt 1 if it is misaligned.
      size: the most pieces; fewer where the text does not support as many.
    """
    prompts, flags = prompts[:MOST_PROMPTS], flags[:MOST_PROMPTS]
    text = [*prompts]
    text += [
        mark_misaligned(prompt, [bool(f) for f in flag]) for prompt, flag in zip(prompts, flags, strict=True)
    ]
    text += [f"{task}: a" for task in TASK_STRINGS.values()] * max(len(prompts) // 20, 20)
    # A piece must occur in two different strings of letters to be thought of: hence the commas.
    known = {*grammar_words(), *" ".join(TASK_STRINGS.values()).split()}
    text += [form for word in sorted(known) for form in (word, f"{word}, {word}.")] * 3
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        user_defined_symbols=[MISALIGNED_SUFFIX],
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        shuffle_input_sentence=False,
        minloglevel=2,
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.getvalue())


def grammar_words() -> list[str]:
    """Every word that a prompt can have, sorted."""
    words = {word for table in concepts.lexicon().values() for entry in table.values() for word in entry}
    words |= {word for entry in (*concepts.COUNTS.values(), *concepts.COUNT_NOUNS.values()) for word in entry}
    words |= {*concepts.EXCLUSIVES, "a", "some", "of", "in", "to", "on", "the", "and", "also", "with", "plus"}
    for phrase in (*grammar.OPENINGS, *grammar.PLACES, *(" ".join(joint) for joint in grammar.JOINTS)):
        words |= set(phrase.split()) - {"{}"}
    return sorted(words)
