"""JSON from strangers: read strictly, within bounds, with errors that name the place.

Two readers take turns. That of `pydantic_core` takes a quarter of the time of the standard
library's, but where a name stands twice in one object it takes the last one without a word, and it
can't read NaN without infinities. So a body is read with it, and again with the strict one if the
first finds anything wrong, or fewer names than colons that may follow one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ranker.errors import InvalidRequestError

SPARE_NESTED = 1000
"""Lists and objects that a body may have beside two for each candidate."""

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""One that does not end is one, too: else the search would begin anew at each quote."""

_COLONS_AFTER_SPACE = (b" :", b"\t:", b"\n:", b"\r:")


def read_json(body: bytes, most_rows: int, *, nan: bool = False) -> Any:
    """Reads a body.

    Args:
        body: JSON in UTF-8.
        most_rows: the most candidates that a list may have; bounds the number of lists and
            objects, of which three bytes would become more than sixty.
        nan: NaN is a number, too, though it is no JSON.

    Raises:
        InvalidRequestError: it is no JSON, or more of it than any request needs.
    """
    check_nested(
        body,
        2 * most_rows + SPARE_NESTED,
        "request",
        f"more lists and objects than {most_rows} candidates can need",
    )
    return parse_json(body, nan=nan)


def check_nested(body: bytes, most: int, place: str, words: str) -> None:
    """Refuses a body that has more lists and objects than it may have.

    Args:
        body: JSON, or anything.
        most: so many it may have.
        place: what to name in the error.
        words: what to say there.

    Raises:
        InvalidRequestError: it has more.
    """
    if _count_nested(body) > most and _count_nested(_TEXT.sub(b"", body)) > most:
        raise InvalidRequestError(place, words)


def _count_nested(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def parse_json(body: bytes, *, nan: bool = False) -> Any:
    """Reads a body whose lists and objects have been counted; see `read_json`."""
    # Here, as no caller may ever send JSON: it takes 7 MB, and 40 ms of processor time.
    from pydantic_core import from_json

    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:
        return _read_strictly(body, nan)
    names = _count_names(value)
    if names == body.count(b":") or names == _count_quoted_colons(body):
        return value
    return _read_strictly(body, nan)


def _read_strictly(body: bytes, nan: bool) -> Any:
    try:
        text = body.decode()
        constant = _read_nan if nan else _refuse_constant
        return json.loads(text, object_pairs_hook=_object, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise InvalidRequestError("request", f"not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise InvalidRequestError("request", "nested too deeply") from error
    except ValueError as error:  # numbers of thousands of digits, too
        raise InvalidRequestError("request", f"not JSON: {error}") from error


def as_object(place: str, value: Any, known: Sequence[str]) -> Mapping[str, Any]:
    """An object that has no fields but the known ones.

    Args:
        place: what to call it in an error; empty for the body itself.
        value: what was read.
        known: the names that it may have.

    Raises:
        InvalidRequestError: it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidRequestError(place or "request", f"expected an object, got {shown(value)}")
    for name in value:
        if name not in known:
            raise InvalidRequestError(
                f"{place}.{name}" if place else name,
                f"no such field; there are {', '.join(known)}",
            )
    return value


def as_text(place: str, value: Any) -> str:
    """A text.

    Raises:
        InvalidRequestError: it is something else, or can't be written in UTF-8.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(place, f"expected a text, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(place, "half of a surrogate pair") from error
    return value


def as_texts(place: str, value: Any, most: int) -> list[str]:
    """A list of at most so many texts; raises InvalidRequestError if it is something else."""
    if not isinstance(value, list) or len(value) > most:
        raise InvalidRequestError(
            place, f"expected a list of at most {most} texts, got {shown(value)}"
        )
    return [as_text(f"{place}[{index}]", each) for index, each in enumerate(value)]


def as_count(place: str, value: Any, most: int) -> int:
    """A whole number from 0 to `most`; raises InvalidRequestError if it is something else."""
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidRequestError(
            place, f"expected a whole number from 0 to {most}, got {shown(value)}"
        )
    return value


def as_flag(place: str, value: Any) -> bool:
    """True or false; raises InvalidRequestError if it is something else."""
    if not isinstance(value, bool):
        raise InvalidRequestError(place, f"expected true or false, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value in an error, cut to size."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _count_names(value: Any) -> int:
    """How many names all objects in a value have; too few if a list begins with no object."""
    names, inner = 0, value
    if type(value) is dict:
        names, inner = len(value), value.values()
    elif type(value) is not list or not value or type(value[0]) is not dict:
        return 0
    for each in inner:
        if type(each) is dict or type(each) is list:
            names += _count_names(each)
    return names


def _count_quoted_colons(body: bytes) -> int | None:
    """How many colons follow a quote, which no name does without; None if space is between."""
    if any(colon in body for colon in _COLONS_AFTER_SPACE):
        return None
    return body.count(b'":')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequestError("request", f"{shown(name)} stands twice in one object")
            seen.add(name)
    return found


def _read_nan(name: str) -> float:
    return math.nan if name == "NaN" else _refuse_constant(name)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequestError("request", f"{name} is not JSON; a missing value is null")
