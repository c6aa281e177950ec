"""Where jobs read and write: folders of this machine, mounted ones among them, not addresses of a bucket."""

from collections.abc import Mapping
from typing import Any

from launch.gin_config import ConfigError

PLACES = (
    *("MODEL_DIR", "INITIAL_CHECKPOINT_PATH", "CHECKPOINT", "EVAL_OUTPUT_DIR", "OUTPUT_DIR", "DATA_DIR"),
    *("INPUT", "TABLE", "VOCABULARY_FILE", "EXPORT_DIR"),
)
"""Macros that name a folder or a file. (A vocabulary of training may be at gs://: SeqIO reads it.)"""


def check_places(macros: Mapping[str, Any]) -> None:
    """Raises ConfigError where one is given as gs://..., which would become a local folder `gs:`.

    Logs are appended to, and files and folders get their names when they are whole: that takes a file system.

    Args:
      macros: values of a configuration by name.
    """
    for name in PLACES:
        for value in _paths(macros.get(name)):
            if "://" not in value:
                continue
            bucket, _, path = value.partition("://")[2].partition("/")
            raise ConfigError(
                f"{name} is {value}, expected a path: mount the bucket {bucket} and give "
                f"--gin.{name}=MOUNT/{path or name.lower()} (launch/README.md says how)."
            )


def _paths(value: Any) -> list[str]:
    """The path or paths in a value: one, several, or some by name."""
    several = value.values() if isinstance(value, Mapping) else value
    several = several if isinstance(value, Mapping | list | tuple) else [value]
    return [path for path in several if isinstance(path, str)]
