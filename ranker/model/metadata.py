"""What an ONNX file says about the model in it, beside the graph.

Kept in the file's `metadata_props`, under keys that start with `ranker.`;
lists are JSON. The exporter writes it and the server reads it. A file from
another converter has none of it and loads with the defaults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any

from ranker.categories import Categories
from ranker.errors import ModelError
from ranker.model.histogram import Reference

PREFIX = "ranker."

MAX_NAME = 128
"""The most characters of a model's name, and of its version."""

MAX_COUNT = 2**31 - 1
"""The most that a count may be: answers about models have no room for much more."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_POSITION = re.compile("0|[1-9][0-9]{0,8}")


def check_name(field: str, text: str) -> None:
    """Refuses a name that a URL, a path, a metric's label or `NAME@VERSION` can't hold as it is.

    Args:
        field: `name` or `version`; both follow one rule.
        text: ASCII letters, digits, `.`, `_` and `-`, of which the first is a
            letter or a digit; at most `MAX_NAME`.

    Raises:
        ModelError: it is something else.
    """
    if not _NAME.fullmatch(text):
        shown = repr(text) if len(text) <= MAX_NAME else f"{text[:32]!r}... of {len(text)}"
        raise ModelError(
            f"{field} {shown}: expected 1 to {MAX_NAME} characters, of A-Z a-z 0-9 . _ -, "
            "the first a letter or a digit"
        )


def name_of(filename: str) -> str:
    """The name of a model that has none: its file's, without the suffix and what no name may hold.

    A file that another converter wrote must not have to be renamed to be
    served, so each run of other characters becomes one `_`.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePath(filename).stem)
    return name.lstrip("._-")[:MAX_NAME].rstrip("_") or "model"


@dataclass(frozen=True)
class ModelMetadata:
    """The facts about a model that its graph does not hold.

    Attributes:
        name: the model's name on the wire, as `check_name` has it; empty: that
            of its file, by `name_of`.
        version: the model's version on the wire, likewise; empty: `1`.
        feature_names: one per feature, in the model's order; empty if unknown.
        feature_types: XGBoost's (`q`, `float`, `int`, `i`, `c`), likewise.
        categories: of each categorical feature whose categories are known, by
            its position in the model's order, what its codes 0, 1, 2 ... stand for.
        required_features: names that every request must send; the others may
            be absent, which is missing (NaN).
        output: `margin` or `probability`.
        objective: XGBoost's name of it, for example `rank:ndcg`.
        xgboost_version: the version whose predictions it was verified against,
            for example `3.2.0`.
        trees: the number of trees exported.
        depth: the number of splits on the longest path.
        iterations: the boosting rounds exported, `begin:end`.
        max_difference: the largest |onnxruntime - XGBoost| that the exporter's
            verification saw; NaN if it was not verified.
        verified_rows: how many rows that verification compared.
        parity: rows with XGBoost's scores, as `ParityRows.to_text` has them; empty if
            there are none.
        reference: histograms of the training data, to tell drift by; None: it can't be told.
    """

    name: str = ""
    version: str = ""
    feature_names: tuple[str, ...] = ()
    feature_types: tuple[str, ...] = ()
    categories: Mapping[int, Categories] = field(default_factory=dict, hash=False)
    required_features: tuple[str, ...] = ()
    output: str = "margin"
    objective: str = ""
    xgboost_version: str = ""
    trees: int = 0
    depth: int = 0
    iterations: str = ""
    max_difference: float = float("nan")
    verified_rows: int = 0
    parity: str = ""
    reference: Reference | None = None

    def to_props(self) -> dict[str, str]:
        """The metadata as ONNX `metadata_props`; `from_props` reads it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        categories = {index: found.values for index, found in values.pop("categories").items()}
        reference = values.pop("reference")
        props = {PREFIX + name: json.dumps(value) for name, value in values.items()}
        if categories:  # which may be many: without spaces, and not in ASCII alone
            text = json.dumps(categories, ensure_ascii=False, separators=(",", ":"))
            props[PREFIX + "categories"] = text
        if reference is not None:
            text = json.dumps(reference.to_facts(), separators=(",", ":"))
            props[PREFIX + "reference"] = text
        return props

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> ModelMetadata:
        """Reads what `to_props` wrote; keys of others are left alone.

        Raises:
            ModelError: a `ranker.` value is not of its field's type, or is one that no
                answer about the model could hold.
        """
        metadata = cls()
        values: dict[str, Any] = {}
        for known in fields(cls):
            key = PREFIX + known.name
            if key not in props:
                continue
            try:
                values[known.name] = _value(key, props[key], getattr(metadata, known.name))
            except RecursionError as error:
                raise ModelError(f"metadata {key}: too many lists within lists") from error
        return replace(metadata, **values)


def _value(key: str, text: str | bytes, default: Any) -> Any:
    """What a property says; protobuf gives bytes where it is not UTF-8."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ModelError(f"metadata {key}: not JSON: {_short(text)}") from error
    if key == f"{PREFIX}categories":
        return _categories(key, value)
    if key == f"{PREFIX}reference":
        return _reference(key, value)
    return _plain(key, value, default)


def _plain(key: str, value: Any, default: Any) -> Any:
    """A value of the type of its field's default."""
    if isinstance(default, tuple):
        valid = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if valid else value
    elif isinstance(default, float):
        valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        valid = type(value) is type(default)
    if not valid:
        raise ModelError(
            f"metadata {key}: expected {type(default).__name__}, got {_short(json.dumps(value))}"
        )
    if isinstance(default, int) and not 0 <= value <= MAX_COUNT:
        raise ModelError(
            f"metadata {key}: expected 0 to {MAX_COUNT}, got {_short(json.dumps(value))}"
        )
    if isinstance(default, str | tuple):
        _check_utf8(key, "".join(value))
    return value


def _check_utf8(key: str, text: str) -> None:
    """JSON can spell half of a character, which UTF-8 can't, and so no message either."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"metadata {key}: can't be written in UTF-8: {error}") from error


def _categories(key: str, value: Any) -> dict[int, Categories]:
    """Lists by the position of their feature, which JSON spells as text."""
    if not isinstance(value, dict):
        raise ModelError(f"metadata {key}: expected an object, got {_short(json.dumps(value))}")
    found = {}
    for index, categories in value.items():
        if not (_POSITION.fullmatch(index) and isinstance(categories, list)):
            raise ModelError(
                f"metadata {key}: expected lists by the feature's position: {_short(index)}"
            )
        try:
            found[int(index)] = Categories(categories)
        except ModelError as error:
            raise ModelError(f"metadata {key}: feature {index}: {error.message}") from error
    return found


def _reference(key: str, value: Any) -> Reference:
    try:
        return Reference.from_facts(value)
    except ModelError as error:
        raise ModelError(f"metadata {key}: {error.message}") from error


def _short(text: str | bytes) -> str:
    return repr(text) if len(text) <= MAX_NAME else f"{text[:MAX_NAME]!r}..."
