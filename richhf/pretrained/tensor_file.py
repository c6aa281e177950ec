"""One safetensors file: arrays by name, and strings that it says beside them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from richhf.atomic import atomic_path

TENSORS = ".safetensors"


def write_tensors(file: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a file, whole or not at all."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    with atomic_path(file) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        safetensors.numpy.save_file(contiguous, temporary, metadata=dict(metadata))
        temporary.chmod(mode)  # safetensors makes files that only their owner reads


def read_tensors(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file, and its metadata.

    Raises:
        ValueError: it is damaged, or holds numbers that NumPy has no type for.
    """
    try:
        with safetensors.safe_open(file, framework="np") as content:
            arrays = {}
            for name in content.keys():  # noqa: SIM118, it is no mapping
                try:
                    arrays[name] = content.get_tensor(name)
                except (AttributeError, TypeError, KeyError) as error:
                    kind = content.get_slice(name).get_dtype()
                    raise ValueError(
                        f"{file}: {name} is of {kind}; expected numbers of 16 bits or more: where it comes "
                        "from, save it as bfloat16 or float32."
                    ) from error
            return arrays, dict(content.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged or no safetensors file: {error}") from error
