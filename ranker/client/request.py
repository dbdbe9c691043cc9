"""From NumPy to an encoded `RankRequest`, with errors that a caller can act on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike

from ranker.categories import Categories
from ranker.errors import DeadlineError, InvalidRequestError
from ranker.frames import Features, Frame, as_float32, read_frame
from ranker.v1 import ranking_pb2 as pb

if TYPE_CHECKING:
    from ranker.client.known_models import KnownModel

MAX_TIMEOUT = 86_400.0
"""Seconds; what waits for longer than a day is a mistake."""


class RankOptions(TypedDict, total=False):
    """What a ranking request may say beside its candidates' features.

    Attributes:
        top_k: how many of the best candidates to return; 0, the default, returns all.
        feature_names: the names of the features' columns, in any order; the model's
            features that are not among them are missing. By default a data frame's
            own names, and else the model's own features in its own order.
        context: values of features that all candidates share, by name: the
            reader's or the query's. They travel once and not once per candidate.
            A number is the feature, or a category's code; text is a category.
        candidate_ids: one text per candidate, returned in rank order.
        model: the name of the model; by default the server's default.
        model_version: its version, or `@` and a label, as in `@canary`; by default what the
            server's configuration gives the unit, or the model's default.
        unit: for whom or what is ranked, the same in all requests: a hashed reader id, say.
            Where a model's traffic is split it decides which version ranks; without it
            each request is drawn anew.
        explain: how many of the best candidates to explain; 0, the default, explains none. The
            answer comes when the server has had time for that, after all plain lists.
        request_id: the caller's own mark, echoed in the answer and the server's
            log. On a stream it must be unique among the requests that the server has not
            answered, also if nobody waits for the answer any more; it is made up if it is not
            given.
    """

    top_k: int
    feature_names: Sequence[str]
    context: Mapping[str, float | str] | None
    candidate_ids: Sequence[str]
    model: str
    model_version: str
    unit: str
    explain: int
    request_id: str


def rank_request(
    features: Features | Frame,
    *,
    known: KnownModel | None = None,
    top_k: int = 0,
    feature_names: Sequence[str] = (),
    context: Mapping[str, float | str] | None = None,
    candidate_ids: Sequence[str] = (),
    model: str = "",
    model_version: str = "",
    unit: str = "",
    explain: int = 0,
    request_id: str = "",
) -> bytes:
    """Encodes a request.

    Checks what the wire format can't carry. Whether the request suits the
    model is for the server to say.

    The rows are copied once, into the result. Handing them to protobuf would
    copy them four times, which for a thousand candidates costs more than the
    RPC; so their field is written here.

    Args:
        features: numbers [candidates, features] of any real dtype and layout,
            with NaN for missing; or a data frame, whose columns' names travel.
        known: the model that it is for, whose categories become their codes
            where the frame or the context holds any.
        top_k: as in `RankOptions`, and so are all that follow.
        feature_names: see there.
        context: see there.
        candidate_ids: see there.
        model: see there.
        model_version: see there.
        unit: see there.
        explain: see there.
        request_id: see there.

    Returns:
        A `ranker.v1.RankRequest` as it travels.

    Raises:
        InvalidRequestError: a value that the wire format can't carry.
    """
    if isinstance(request_id, bytes):  # protobuf takes them; the answer's id is another then
        raise InvalidRequestError("request_id", f"expected a text, got {request_id!r}")
    frame = features if isinstance(features, Frame) else read_frame(features)
    if frame is None:
        rows = as_float32("candidates.data", cast(ArrayLike, features))
    elif frame.numbered and feature_names:
        rows = frame.rows((), {})
    else:
        names_of_model = known.feature_names if known else () if frame.numbered else frame.names
        feature_names = _agreed(feature_names, frame.names_for(names_of_model))
        rows = frame.rows(names_of_model, _categories(known))
    if rows.ndim != 2:
        raise InvalidRequestError(
            "candidates", f"expected a matrix [candidates, features], got shape {rows.shape}"
        )
    values = [_coded(name, value, known) for name, value in (context or {}).items()]
    try:
        request = pb.RankRequest(
            request_id=request_id,
            model=model,
            model_version=model_version,
            unit=unit,
            feature_names=_texts("feature_names", feature_names),
            context=pb.Context(
                feature_names=_texts("context.feature_names", context),
                values=as_float32("context.values", values),
            )
            if context
            else None,
            candidate_ids=_texts("candidate_ids", candidate_ids),
            top_k=top_k,
            explain=explain,
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequestError("request", f"does not fit RankRequest: {error}") from error
    matrix = pb.Matrix(
        rows=rows.shape[0], columns=rows.shape[1], data_type=pb.DATA_TYPE_FLOAT32
    ).SerializeToString()
    data = _field_head(pb.Matrix.DATA_FIELD_NUMBER, rows.nbytes)
    return b"".join(
        (
            request.SerializeToString(),
            _field_head(
                pb.RankRequest.CANDIDATES_FIELD_NUMBER, len(matrix) + len(data) + rows.nbytes
            ),
            matrix,
            data,
            rows.data,
        )
    )


def with_deadline(request: bytes, seconds: float, made_up_id: str) -> bytes:
    """The encoded request with the time that it may take, as a stream's requests say it.

    Args:
        request: the rest of it.
        seconds: that time.
        made_up_id: its id; empty if the request has one already.
    """
    # A message may be encoded in parts: protobuf reads the fields of all of them. The id is the
    # first, where a server finds it also in a message that it refuses unread.
    head = pb.RankRequest(request_id=made_up_id)
    rest = pb.RankRequest(deadline_ms=max(1, math.ceil(seconds * 1e3)))
    return b"".join((head.SerializeToString(), request, rest.SerializeToString()))


def checked_timeout(timeout: float) -> float:
    """The timeout, in seconds, if a call can be given it.

    Raises:
        DeadlineError: there is no time left.
        InvalidRequestError: it is not a number, or above `MAX_TIMEOUT`.
    """
    if timeout <= 0:
        raise DeadlineError(f"no time left before sending: timeout is {timeout:g} s")
    if not timeout <= MAX_TIMEOUT:
        raise InvalidRequestError(
            "timeout", f"expected at most {MAX_TIMEOUT:g} seconds, got {timeout}"
        )
    return timeout


def _agreed(given: Sequence[str], names: tuple[str, ...]) -> Sequence[str]:
    """The names of a frame's columns, with which those that are given must agree."""
    if given and names and tuple(given) != names:
        raise InvalidRequestError(
            "feature_names", f"the data frame has other names, {list(names)}; give none"
        )
    return names or given


def _categories(known: KnownModel | None) -> Mapping[str, Categories]:
    return known.categories if known else {}


def _coded(name: str, value: float | str, known: KnownModel | None) -> float:
    """A value of the context as it travels: text is a category, and becomes its code."""
    if isinstance(value, int | np.integer) and -(2**63) <= value < 2**64:
        # Beside fractions it would become float64, which rounds a large one before float32 does.
        return float(as_float32("context.values", value)[0])
    if not isinstance(value, str):
        return value
    categories = _categories(known).get(name)
    if categories is None:
        raise InvalidRequestError(
            "context.values",
            f"{name}: expected a real number, got {value!r}; the model knows no categories of it",
        )
    return categories.code(f"context.values, {name}", value)


def _field_head(number: int, length: int) -> bytes:
    """What precedes the bytes of a field of known length: its tag and the length, a varint.

    See https://protobuf.dev/programming-guides/encoding/#length-types.
    """
    head = bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def _texts(field: str, values: Iterable[str]) -> list[str]:
    # protobuf's own words for a wrong element name neither the field nor the type.
    if isinstance(values, str):
        raise InvalidRequestError(field, f"expected a sequence of texts, got the text {values!r}")
    texts = list(values)
    for kind in set(map(type, texts)):
        if not issubclass(kind, str):
            raise InvalidRequestError(field, f"expected texts, got {kind.__name__}")
    return texts
