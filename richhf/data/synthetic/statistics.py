"""What `dataset_info.json` says of a set: shares without fault, faults by kind, agreement, checksums."""

import collections
from typing import Any

import numpy as np
import sentencepiece

from richhf.data.agreement import krippendorff_alpha
from richhf.data.synthetic import artifacts, misalign
from richhf.feedback import SCORES

Summary = dict[str, Any]


def dataset_statistics(summaries: list[Summary], vocabulary: str) -> dict[str, Any]:
    """Statistics of all examples of a set.

    Args:
      summaries: `Sample.summary()` of every example.
      vocabulary: file of the SentencePiece model, for the lengths of prompts.

    Returns:
      `shares` (without artifact, without misalignment), `faults` (how many of each kind), `agreement` (by
      score: share of examples by highest minus lowest mark, and Krippendorff's alpha), `tokens` (mean and
      most pieces of a prompt, size of the vocabulary).
    """
    kinds: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("artifacts", "misalignments")
    }
    without: collections.Counter[str] = collections.Counter()
    for summary in summaries:
        for name, counter in kinds.items():
            counter.update(summary["faults"][name])
            without[name] += not summary["faults"][name]
    marks = {name: np.array([summary["likert"][name] for summary in summaries]).T for name in SCORES}
    pieces = sentencepiece.SentencePieceProcessor(model_file=vocabulary)
    lengths = [len(tokens) for tokens in pieces.encode([summary["prompt"] for summary in summaries])]
    return {
        "shares": {f"without_{name}": round(without[name] / len(summaries), 4) for name in kinds},
        "faults": {
            "artifacts": {kind: kinds["artifacts"][kind] for kind in artifacts.KINDS},
            "misalignments": {kind: kinds["misalignments"][kind] for kind in misalign.KINDS},
        },
        "agreement": {
            name: {
                "spread": [round(float(np.mean(np.ptp(marks[name], axis=0) == gap)), 4) for gap in range(5)],
                "krippendorff_alpha": round(float(krippendorff_alpha(marks[name])), 4),
            }
            for name in SCORES
        },
        "tokens": {
            "mean": round(float(np.mean(lengths)), 2),
            "most": max(lengths),
            "vocabulary": pieces.get_piece_size(),
        },
    }
