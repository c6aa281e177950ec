"""Mixtures: batches of several tasks at chosen rates."""

from collections.abc import Callable, Sequence

import seqio

from richhf import feedback
from tasks.registration import make_room


def register(
    name: str, members: Sequence[Callable[[], Sequence[str]]], rates: Sequence[float]
) -> tuple[str, ...]:
    """Registers `{name}_multi_head` and `{name}_augmented_prompt`, mixing the members' tasks.

    Args:
      name: of the mixture.
      members: functions that register tasks and return their names in the order of `VARIANTS`, with every
        setting bound; all with the same features (captions `with_empty_labels`) and vocabulary.
      rates: for each member how many examples are taken, relative to the others.

    Returns:
      The names of the mixtures, in the order of `VARIANTS`.

    Raises:
      ValueError: other numbers of members and rates, a rate that is not above 0, or unequal features.
    """
    if len(members) != len(rates) or not members or min(rates) <= 0:
        raise ValueError(
            f"The mixture {name} has {len(members)} member(s) and the rates {list(rates)}; expected one rate "
            "above 0 for each member. Leave out what is not to be mixed in."
        )
    registered = [member() for member in members]
    names = []
    for index, variant in enumerate(feedback.VARIANTS):
        names.append(f"{name}_{variant}")
        make_room(seqio.MixtureRegistry, names[-1])
        tasks = [member[index] for member in registered]
        seqio.MixtureRegistry.add(names[-1], list(zip(tasks, rates, strict=True)))
    return tuple(names)
