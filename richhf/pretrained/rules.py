"""What becomes what: rules from names of another make to paths of ours, and tables of them."""

import dataclasses
import functools
import re
from collections.abc import Mapping

from richhf.pretrained.transforms import KEEP, Transform

FIELD = re.compile(r"\\\{(\w+)\\\}")


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """The regular expression of a template: `{i}` stands for a number, the same wherever it comes again."""
    seen: set[str] = set()

    def field(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>\d+)"

    return re.compile(FIELD.sub(field, re.escape(template)))


def translate(name: str, source: str, target: str) -> str | None:
    """A name by another template, if it is of the first one."""
    match = _pattern(source).fullmatch(name)
    return target.format(**match.groupdict()) if match else None


@dataclasses.dataclass(frozen=True)
class Rule:
    """One kind of array.

    Several rules may have one target: names that an array goes by in different files. Where a file has more
    than one of them (tied weights), they must be equal.

    Attributes:
        source: a template of its name there, as in `encoder.layer.{i}.output.dense.bias`.
        target: a template of its path here, as in `block_{i}/mlp_out/bias`.
        transform: what is done with it.
        written: whether it is also written; False for names of another version of the format.
    """

    source: str
    target: str
    transform: Transform = KEEP
    written: bool = True

    def source_of(self, path: str) -> str | None:
        """The name there of what is at a path here."""
        return translate(path, self.target, self.source)

    def target_of(self, name: str) -> str | None:
        """The path here of what has a name there."""
        return translate(name, self.source, self.target)


@dataclasses.dataclass(frozen=True)
class Table:
    """All rules of a format, for a model of given sizes.

    Attributes:
        name: of the format.
        rules: for every array of the parts that the format has.
        left_out: regular expressions of names that are left out on purpose, each with the reason.
        fresh: regular expressions of paths that the format has nothing for on purpose, each with the reason.
        unused: shapes of arrays that the format has and nobody reads: left out on the way in, zeros on the
            way out.
        prefix: regular expression of what names may begin with besides.
    """

    name: str
    rules: tuple[Rule, ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fresh: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    prefix: str = ""

    def under(self, source: str, target: str) -> "Table":
        """The same table where everything stands below another name there and another path here."""
        return dataclasses.replace(
            self,
            rules=tuple(
                dataclasses.replace(rule, source=source + rule.source, target=target + rule.target)
                for rule in self.rules
            ),
            left_out={re.escape(source) + pattern: why for pattern, why in self.left_out.items()},
            fresh={re.escape(target) + pattern: why for pattern, why in self.fresh.items()},
            unused={source + name: shape for name, shape in self.unused.items()},
        )


def reason(name: str, exceptions: Mapping[str, str]) -> str | None:
    """Why a name is an exception, if it is one."""
    return next((why for pattern, why in exceptions.items() if re.fullmatch(pattern, name)), None)
