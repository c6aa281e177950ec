"""Names of arrays without what training tools put before them.

DistributedDataParallel, torch.compile, FSDP and Lightning put `module.`, `_orig_mod.` or `model.` before the
names of a network, in any order and more than once; checkpoints of Flax have `params/` or `target/`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_TOOLS = re.compile(
    r"(?:(?<=^)|(?<=[./]))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)[./]"
)
_WRAPPERS = re.compile(
    r"(?:(?:state_dict|model_state_dict|model|network|net|params|target|opt/target|optimizer/target)[./])*"
)
_LISTED = 6


def without_tools(arrays: Mapping[str, np.ndarray], origin: str) -> dict[str, np.ndarray]:
    """Returns the arrays by their names without the parts that PyTorch's tools insert, wherever those stand.

    Raises:
        ValueError: two arrays would have one name; `origin` says where they are from.
    """
    original: dict[str, str] = {}
    for name in arrays:
        short = _TOOLS.sub("", name)
        if short in original:
            raise ValueError(
                f"{origin} has both {original[short]} and {name}, which are one array of the network: save "
                "one copy of the weights alone."
            )
        original[short] = name
    return {short: arrays[name] for short, name in original.items()}


def prefixes_of(names: Iterable[str], mark: str) -> tuple[str, ...]:
    """Returns what stands before the names that match `mark`, a regular expression, each once."""
    pattern = re.compile(rf"((?:.*[./])??)(?:{mark})")
    matches = (pattern.fullmatch(name) for name in names)
    return tuple(dict.fromkeys(match[1] for match in matches if match))


def choose_prefix(prefixes: Sequence[str], origin: str, what: str) -> str:
    """Returns the prefix of the weights that are meant, where there are several copies of a network.

    Args:
        prefixes: those found.
        origin: where they are from, for errors.
        what: the network, for errors.

    Raises:
        ValueError: several copies, and none is named as the network in training usually is.
    """
    usual = [prefix for prefix in prefixes if _WRAPPERS.fullmatch(prefix)]
    candidates = prefixes if len(prefixes) == 1 else usual
    if len(candidates) != 1:
        raise ValueError(
            f"{origin} has {len(prefixes)} copies of {what}, with names that begin with "
            f"{', '.join(map(repr, prefixes))}, and does not say which is meant: save that one alone."
        )
    return candidates[0]


def take_below(
    arrays: Mapping[str, np.ndarray], prefix: str, prefixes: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the arrays below a prefix by the rest of their names, and notes on the others.

    Args:
        arrays: by name.
        prefix: of the network that is meant.
        prefixes: of all its copies.
    """
    copies = [other for other in prefixes if other != prefix and not prefix.startswith(other)]
    kept, counters = {}, []
    copied: dict[str, int] = {}
    outside: dict[str, int] = {}
    for name, value in arrays.items():
        copy = next((other for other in copies if name.startswith(other)), None)
        if copy is not None:
            copied[copy] = copied.get(copy, 0) + 1
        elif not name.startswith(prefix):
            first = re.split(r"(?<=[./])", name)[0]
            outside[first] = outside.get(first, 0) + 1
        elif not np.shape(value) and not re.search(r"[./]", name.removeprefix(prefix)):
            counters.append(name)
        else:
            kept[name.removeprefix(prefix)] = value
    notes = [f"names begin with {prefix!r}"] if not _WRAPPERS.fullmatch(prefix) else []
    notes += [
        f"{other}* left out: another copy of the network, {count} arrays" for other, count in copied.items()
    ]
    if outside:
        groups = [f"{name}* ({count})" if name[-1] in "./" else name for name, count in outside.items()]
        more = ["..."] * (len(groups) > _LISTED)
        notes.append(f"{', '.join(groups[:_LISTED] + more)} left out: not below {prefix!r}")
    notes += [f"{name} left out: a single number" for name in counters]
    return kept, tuple(notes)
