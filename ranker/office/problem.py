"""Errors over HTTP, and the one mapping from our codes to HTTP's.

Errors are problem details (RFC 9457); under `/v2` they are what the Open Inference Protocol says,
an object with a message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from ranker.errors import Code, InvalidRequestError, OverloadedError, RankerError

MEDIA_TYPE = "application/problem+json"

_PLAIN = "/v2"
"""The path under which errors are a message alone."""

STATUS: Mapping[Code, int] = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""By code; any other is 500. As google.api.HttpRule's gateways have it; 499 is nginx's."""


def problem(path: str, error: RankerError) -> Response:
    """An error as an answer.

    Args:
        path: what was asked for.
        error: what went wrong. The field of an invalid request is the same path as over gRPC.
    """
    status = STATUS.get(error.code, 500)
    details: dict[str, object] = {"code": error.code.name}
    about: dict[str, str] = {}
    if isinstance(error, InvalidRequestError):
        details["errors"] = [{"field": error.field, "detail": error.description}]
    if isinstance(error, OverloadedError):
        if error.says_when:
            about["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
            details["retry_after_seconds"] = error.retry_after
        else:
            # gRPC's own, of a message that is larger than a worker takes: no retry helps.
            status = 413
    return _response(path, status, error.message, details, about)


def http_problem(
    path: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A problem that HTTP has and gRPC has not: no such page, a body that is too large."""
    return _response(path, status, detail, {}, dict(headers or {}))


def _response(
    path: str, status: int, detail: str, details: Mapping[str, object], headers: dict[str, str]
) -> Response:
    if path == _PLAIN or path.startswith(f"{_PLAIN}/"):
        return Response(json.dumps({"error": detail}), status, headers, "application/json")
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Client Closed Request"
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps({**content, **details}).encode()
    return Response(body, status, headers, MEDIA_TYPE)
