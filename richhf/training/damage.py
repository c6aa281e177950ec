"""Whether an error in reading a checkpoint comes from what is in its files."""

import re
from collections.abc import Iterator

from richhf.training.iterator_checkpoint import MismatchError

NOT_DAMAGE = re.compile(
    # TensorStore's errors begin with their kind; those of the system hold its number, 2 is a missing file.
    r"^(PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|UNAUTHENTICATED|DEADLINE_EXCEEDED|CANCELLED|ABORTED)"
    r"|\[OS error (?!2[^\d])\d+"
)
DAMAGE = FileNotFoundError, ValueError, KeyError, EOFError


def is_damage(error: BaseException) -> bool:
    """Whether an error in reading a checkpoint comes from what is in it.

    Missing files raise FileNotFoundError; files cut short ValueErrors, of JSON or of TensorStore; a name that
    is not in a file KeyError. Orbax wraps some of them in a bare Exception, and errors of several reads come
    as a group: these are judged by their causes. Missing permission, no memory, a failing disk or another
    model anywhere among the causes is not damage. Neither is any other error: a bug or another version of
    Orbax may raise it.
    """
    return not any(map(_is_other, _causes(error))) and _is_from_files(error)


def _is_from_files(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_from_files(each) for each in error.exceptions)
    cause = _cause(error)
    if type(error) is Exception and cause is not None:
        return _is_from_files(cause)
    return isinstance(error, DAMAGE)


def _is_other(error: BaseException) -> bool:
    system = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return system or isinstance(error, MismatchError | MemoryError) or bool(NOT_DAMAGE.search(str(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes, the members of groups and their causes."""
    ahead, seen = [error], set()
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        ahead += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        ahead += [cause] if (cause := _cause(one)) is not None else []


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def one_line(error: BaseException, length: int = 300) -> str:
    """The message of the innermost error that a bare Exception wraps, on one line."""
    while type(error) is Exception and (cause := _cause(error)) is not None:
        error = cause
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else f"{text[:length]} ..."
