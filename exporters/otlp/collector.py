"""A collector of spans: where it is, and how it is reached.

OTLP over HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Its variables:
https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Callable

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.util.re import parse_env_headers
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry

from ranker.distribution import NAME, version

_RETRIED = (429, 502, 503, 504)
"""The statuses by which a collector puts off: https://opentelemetry.io/docs/specs/otlp/#failures-1."""

_TRIES_AGAIN = 4
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 10.0
"""Of waits between tries: none before the second, then this, twice this, and so on."""

_COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


class Collector:
    """Takes spans.

    Args:
        endpoint: the URL that they are posted to.

    Raises:
        ValueError: a variable of OTLP's can't be.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seconds = seconds(_name("TIMEOUT"), 10.0)
        compression = os.environ.get(_name("COMPRESSION"), "").strip().lower() or "none"
        if compression not in _COMPRESSIONS:
            expected = ", ".join(_COMPRESSIONS)
            raise ValueError(f"{_name('COMPRESSION')}: expected one of {expected}")
        self._compress = _COMPRESSIONS[compression]
        self._session = session = requests.Session()
        session.headers["User-Agent"] = f"{NAME}/{version()}"
        session.headers["Content-Type"] = "application/x-protobuf"
        if compression != "none":
            session.headers["Content-Encoding"] = compression
        headers = os.environ.get(_name("HEADERS"), "")
        session.headers.update(parse_env_headers(headers, liberal=True))
        self._trusts = os.environ.get(_name("CERTIFICATE"), "") or True
        own, key = (os.environ.get(_name(f"CLIENT_{each}"), "") for each in ("CERTIFICATE", "KEY"))
        session.cert = (own, key) if own and key else own or None
        retries = _Retries(
            _TRIES_AGAIN,
            read=0,  # it may have been taken
            redirect=0,
            status_forcelist=_RETRIED,
            allowed_methods=None,
            backoff_factor=_FIRST_WAIT_SECONDS / 2,
            backoff_max=_LONGEST_WAIT_SECONDS,
            raise_on_status=False,
        )
        # It tells of each try; the caller is told of the last.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))

    def post(self, message: bytes) -> tuple[int | None, str]:
        """Sends spans; again, if the collector puts them off.

        Returns:
            How many it has not taken, None if that is all of them; and why, if it says.
        """
        try:
            answer = self._session.post(
                self._endpoint,
                self._compress(message),
                timeout=self._seconds,
                allow_redirects=False,
                verify=self._trusts,  # a session's own comes after REQUESTS_CA_BUNDLE
            )
        except OSError as error:  # requests' own, or a certificate can't be read
            return None, str(error)
        if answer.status_code != requests.codes.ok:
            return None, f"HTTP {answer.status_code} {answer.reason}: {answer.text[:200]}"
        try:
            partly = ExportTraceServiceResponse.FromString(answer.content).partial_success
        except DecodeError:
            return 0, ""  # it is the status that counts
        return partly.rejected_spans, partly.error_message


class _Retries(Retry):
    """Bounds how long a collector may put off."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        after = super().get_retry_after(response)
        return None if after is None else min(after, _LONGEST_WAIT_SECONDS)


def seconds(variable: str, default: float, unit: float = 1.0) -> float:
    """A variable that is a time.

    Args:
        variable: its name.
        default: what it is if it is not set, in seconds.
        unit: what it is given in, in seconds.

    Raises:
        ValueError: it is no positive number.
    """
    text = os.environ.get(variable, "").strip()
    try:
        found = float(text) * unit if text else default
    except ValueError:
        found = 0.0
    if not 0.0 < found < float("inf"):
        raise ValueError(f"{variable}: expected a positive number, got {text!r}")
    return found


def _name(of: str) -> str:
    """The name of the variable that holds for traces."""
    own = f"OTEL_EXPORTER_OTLP_TRACES_{of}"
    return own if own in os.environ else f"OTEL_EXPORTER_OTLP_{of}"
