"""RAHF in JAX/Flax: rich human feedback on generated images.

    import richhf

    predictor = richhf.load("synthetic-tiny")
    feedback = predictor("image.png", "two red squares above a blue circle")[0]

All that is here is imported when it is first used: `import richhf` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from richhf.feedback import Feedback
    from richhf.inference.example import example
    from richhf.inference.load import load, load_vocabulary
    from richhf.inference.predictor import Predictor

__version__ = "0.1.0"

__all__ = ["Feedback", "Predictor", "__version__", "example", "load", "load_vocabulary"]

_FROM = {
    "Feedback": "richhf.feedback",
    "Predictor": "richhf.inference.predictor",
    "example": "richhf.inference.example",
    "load": "richhf.inference.load",
    "load_vocabulary": "richhf.inference.load",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'richhf' has no attribute {name!r}; it has {', '.join(__all__)}.")
    import importlib

    return getattr(importlib.import_module(_FROM[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
