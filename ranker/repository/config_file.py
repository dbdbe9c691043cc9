"""The configuration's file, edited where it is: labels and traffic change, and nothing else.

Scalars are replaced at the places where the YAML parser has found them. A round trip through
the parser would lay the rest of the file out anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from ruamel.yaml.comments import CommentedMap

from ranker.errors import ConfigError
from ranker.repository.config import ModelConfig, parse_config
from ranker.repository.config_place import ConfigPlace
from ranker.repository.config_yaml import load_yaml

_SCALAR = re.compile(r"""[A-Za-z0-9._+-]+|"[^"\n]*"|'[^'\n]*'""")

_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""What is no text in some version of YAML."""


class ConfigFile:
    """A configuration and its text.

    Args:
        place: where it lies.

    Attributes:
        config: what it says.
        text: how it says it.

    Raises:
        ConfigError: it can't be read, or is wrong.
    """

    def __init__(self, place: ConfigPlace) -> None:
        self._place = place
        self._written = place.read()
        self.text = self._written.text
        self.config = parse_config(self.text, place.name)

    def model(self, name: str) -> ModelConfig:
        """What it says of a model.

        Raises:
            ConfigError: there is no such model.
        """
        if name not in self.config.models:
            known = ", ".join(self.config.models)
            raise ConfigError(f"{self._place.name}: there is no model {name}; there are: {known}")
        return self.config.models[name]

    def edited(self, name: str, model: ModelConfig) -> str:
        """The text with other labels and traffic of a model.

        Args:
            name: of the model.
            model: what is to be said of it; versions must have a label already.

        Raises:
            ConfigError: the text can't be edited, since it has anchors and the like.
        """
        expected = self.config.model_copy(update={"models": {**self.config.models, name: model}})
        edits = self._edits(name, model)
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        found = parse_config(text, self._place.name)
        if found != expected or _orders(found.models[name]) != _orders(model):
            raise self._not_editable(name)
        return text

    def replace(self, text: str) -> None:
        """Writes another text, whole or not at all.

        Raises:
            ConfigError: it can't be written, or somebody else has changed the file.
        """
        self._place.replace(text, self._written)

    def _edits(self, name: str, model: ModelConfig) -> list[tuple[int, int, str]]:
        """What to put in place of which characters."""
        before = self.config.models[name]
        written = load_yaml(self.text, self._place.name)["models"][name]
        versions = {
            version: self._scalar(name, written.get("labels"), label)
            for label, version in before.labels.items()
        }
        edits = []
        for label, version in model.labels.items():
            if before.labels.get(label) != version:
                start, end = versions[version]
                new = self.text[start:end]
                edits.append(self._edit(name, written["labels"], model.labels, label, new))
        for label, share in model.traffic.items():
            if before.traffic.get(label) != share:
                new = _number(share)
                edits.append(self._edit(name, written["traffic"], model.traffic, label, new))
        return edits

    def _edit(
        self, name: str, mapping: Any, wanted: Iterable[str], key: str, value: str
    ) -> tuple[int, int, str]:
        """Sets a key of a mapping; a new one comes where it is among those that are wanted."""
        if key in mapping:
            return (*self._scalar(name, mapping, key), value)
        new = f"{_as_key(key)}: {value}"
        before = [each for each in takewhile(lambda each: each != key, wanted) if each in mapping]
        if not before:
            raise self._not_editable(name)
        _, at = self._scalar(name, mapping, before[-1])
        if mapping.fa.flow_style():
            return at, at, f", {new}"
        line_break = "\r\n" if "\r\n" in self.text else "\n"
        _, column = mapping.lc.key(before[-1])
        at += len(self.text[at:].partition("\n")[0].rstrip("\r"))  # behind a comment
        return at, at, f"{line_break}{' ' * column}{new}"

    def _scalar(self, name: str, mapping: Any, key: str) -> tuple[int, int]:
        """Where a key's value begins and ends in the text."""
        if isinstance(mapping, CommentedMap) and key in (mapping.lc.data or {}):
            found = _SCALAR.match(self.text, self._offset(*mapping.lc.value(key)))
            if found:
                return found.span()
        raise self._not_editable(name)

    def _offset(self, line: int, column: int) -> int:
        return sum(map(len, self.text.split("\n")[:line])) + line + column

    def _not_editable(self, name: str) -> ConfigError:
        return ConfigError(
            f"{self._place.name}: the labels and the traffic of {name} are written in a way that "
            "only a person can edit, with anchors for example"
        )


def _as_key(label: str) -> str:
    """A label as YAML reads it as text; what begins with a digit may be a number or a date."""
    is_text = label[:1].isalpha() and label.lower() not in _WORDS
    return label if is_text else f'"{label}"'


def _number(share: float) -> str:
    """A share as a person writes it, and as exactly this number."""
    return repr(share).removesuffix(".0")


def _orders(model: ModelConfig) -> tuple[list[str], list[str]]:
    """The order of labels, of which the first may be the default, and of shares, as on the line."""
    return list(model.labels), list(model.traffic)
