"""A configuration's YAML, read so that versions can be told from numbers."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ranker.errors import ConfigError


class WrittenNumber(int):
    """A whole number that is not written with its decimal digits alone: 007, 0x10 or 1_000.

    Attributes:
        text: how it is written.
    """

    text: str


class _Constructor(RoundTripConstructor):
    def construct_yaml_int(self, node: Any) -> int:
        value = int(super().construct_yaml_int(node))
        if node.value == str(value):
            return value
        number = WrittenNumber(value)
        number.text = node.value
        return number

    def construct_yaml_timestamp(self, node: Any, values: Any = None) -> Any:
        try:
            return super().construct_yaml_timestamp(node, values)
        except ValueError as error:  # 2026-02-30
            problem = f"{node.value} is read as a date: {error}; put it in quotes if it is none"
            raise ConstructorError(None, None, problem, node.start_mark) from error


for _kind in ("int", "timestamp"):
    _Constructor.add_constructor(
        f"tag:yaml.org,2002:{_kind}", getattr(_Constructor, f"construct_yaml_{_kind}")
    )


def load_yaml(text: str, name: str) -> Any:
    """Reads YAML, with the places of all that is in it.

    Args:
        text: the YAML.
        name: what errors call it.

    Raises:
        ConfigError: it is wrong; says where.
    """
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    try:
        return yaml.load(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = (error.problem or str(error)).partition("\n")[0]
        raise ConfigError(f"{where}: {problem}") from error
    except (YAMLError, ValueError) as error:  # of a number with thousands of digits
        raise ConfigError(f"{name}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: it is nested too deeply") from error
