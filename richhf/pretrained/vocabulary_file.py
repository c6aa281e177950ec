"""A vocabulary that is to go with a model: a SentencePiece file that fits its embedding."""

from pathlib import Path

import sentencepiece

from richhf.models.model import RichFeedbackModel


def check_vocabulary(file: Path, model: RichFeedbackModel | None = None) -> bytes:
    """The content of a vocabulary file.

    Args:
        file: where it is.
        model: what it is to go with; None: not yet known.

    Raises:
        ValueError: it is not there, no SentencePiece model, or not one of the model's.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; expected the SentencePiece model of the weights.")
    content, pieces = file.read_bytes(), sentencepiece.SentencePieceProcessor()
    try:
        pieces.LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise ValueError(
            f"{file} is no SentencePiece model; expected the one that the weights were trained with "
            "(spiece.model, vocabulary.model)."
        ) from error
    if model is None:
        return content
    rows, size = model.config.t5.vocab_size, pieces.GetPieceSize()
    if size > rows:
        raise ValueError(f"{file} has {size} pieces, but the model embeds {rows}: it is another model's.")
    if pieces.eos_id() != model.eos_id:
        raise ValueError(
            f"{file} ends texts with the id {pieces.eos_id()}, the model with {model.eos_id}: it is another "
            "model's."
        )
    return content
