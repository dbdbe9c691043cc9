import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ranker import logs

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
PREFIX = "logging.googleapis.com/"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts everything back that `configure` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    # `basicConfig(force=True)` closes the handlers it removes: not pytest's.
    for handler in handlers:
        root.removeHandler(handler)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


Capture = pytest.CaptureFixture[str]


def lose() -> None:
    raise KeyError("lost")


def entries(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_record(capsys: Capture):
    logs.configure("json")
    before = datetime.now(UTC)
    logging.getLogger("ranker.process.server").info("loaded %s in %.1f s", "books", 1.25)
    [entry] = entries(capsys)
    assert before <= datetime.fromisoformat(entry.pop("time")) <= datetime.now(UTC)
    assert entry == {
        "severity": "INFO",
        "message": "loaded books in 1.2 s",
        "logger": "ranker.process.server",
    }


@pytest.mark.parametrize("severity", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_severity_is_cloud_loggings_name(capsys: Capture, severity: str):
    logs.configure("json", "debug")
    logging.log(getattr(logging, severity), "x")
    assert [entry["severity"] for entry in entries(capsys)] == [severity]


def test_level_drops_what_is_less_severe(capsys: Capture):
    logs.configure("json", "WARNING")
    logging.info("quiet")
    logging.warning("loud")
    assert [entry["message"] for entry in entries(capsys)] == ["loud"]


def test_configuring_again_replaces(capsys: Capture):
    logs.configure("json")
    logs.configure("json", process="3")
    logging.info("once")
    [entry] = entries(capsys)
    assert entry[PREFIX + "labels"] == {"worker": "3"}


@pytest.mark.parametrize(
    ("given", "environment", "trace"),
    [
        pytest.param("", None, TRACE, id="project unknown"),
        pytest.param("", "shop", f"projects/shop/traces/{TRACE}", id="environment"),
        pytest.param("shop", None, f"projects/shop/traces/{TRACE}", id="given"),
        pytest.param("shop", "other", f"projects/shop/traces/{TRACE}", id="given goes first"),
    ],
)
def test_trace(
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    environment: str | None,
    trace: str,
):
    if environment is not None:
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", environment)
    logs.configure("json", project=given)
    logging.info("x", extra=logs.trace_of(TRACEPARENT))
    [entry] = entries(capsys)
    assert entry[PREFIX + "trace"] == trace
    assert entry[PREFIX + "spanId"] == SPAN
    assert entry[PREFIX + "trace_sampled"] is True


@pytest.mark.parametrize(
    "header", [pytest.param(None, id="none"), pytest.param("00-xyz", id="invalid")]
)
def test_no_trace(capsys: Capture, header: str | None):
    logs.configure("json")
    logging.info("x", extra=logs.trace_of(header))
    [entry] = entries(capsys)
    assert not any("trace" in name for name in entry)


def test_known_fields_are_written_and_no_others(capsys: Capture):
    logs.configure("json")
    extra = {"incident": "ab12", "request_id": "r1", "features": [1.5, 2.5]}
    logging.info("x", extra=extra)
    [entry] = entries(capsys)
    assert entry.keys() == {"severity", "time", "message", "logger", "incident", "request_id"}
    assert (entry["incident"], entry["request_id"]) == ("ab12", "r1")


def test_exception_is_one_line_with_its_stack(capsys: Capture):
    logs.configure("json")
    try:
        lose()
    except KeyError:
        logging.exception("failed")
    [entry] = entries(capsys)
    assert entry["message"] == "failed"
    assert entry["stack_trace"].startswith("Traceback (most recent call last)")
    assert entry["stack_trace"].endswith("KeyError: 'lost'")
    assert entry[PREFIX + "sourceLocation"]["function"].startswith("test_exception")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("two\nlines", id="line break"),
        pytest.param('quote " and \\', id="quotes"),
        pytest.param("\ud800 lone surrogate", id="surrogate"),
        pytest.param("\u2028é", id="unicode"),
    ],
)
def test_any_message_is_one_line_of_ascii(capsys: Capture, message: str):
    logs.configure("json")
    logging.info("%s", message)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert written.isascii()
    assert json.loads(written)["message"] == message


def test_uncaught_exceptions_are_records(capsys: Capture):
    logs.configure("json")
    try:
        lose()
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    thread = threading.Thread(target=lose, name="engine")
    thread.start()
    thread.join()
    first, second = entries(capsys)
    assert first["severity"] == second["severity"] == "CRITICAL"
    assert first["stack_trace"].endswith("KeyError: 'lost'")
    assert second["message"] == "uncaught exception in thread engine"
    assert second["stack_trace"].endswith("KeyError: 'lost'")


def test_warnings_are_records(capsys: Capture):
    logs.configure("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    [entry] = entries(capsys)
    assert entry["severity"] == "WARNING"
    assert "old" in entry["message"]


def test_text(capsys: Capture):
    logs.configure("text", process="1")
    extra = {"request_id": "r1\nINFO forged", **logs.trace_of(TRACEPARENT)}
    logging.getLogger("ranker").warning("slow", extra=extra)
    time, _, rest = capsys.readouterr().err.partition(" ")
    assert datetime.strptime(time, "%H:%M:%S.%f")
    assert rest == f'WARNING [1] slow request_id="r1\\nINFO forged" trace="{TRACE}"\n'


def test_text_has_the_traceback_below(capsys: Capture):
    logs.configure("text")
    try:
        lose()
    except KeyError:
        logging.exception("failed", extra={"incident": "ab12"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith('failed incident="ab12"')
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'lost'"


@pytest.mark.parametrize(
    ("stream", "is_json"),
    [pytest.param(Terminal(), False, id="terminal"), pytest.param(io.StringIO(), True, id="pipe")],
)
def test_auto(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, is_json: bool):
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure()
    logging.info("hello")
    assert stream.getvalue().startswith("{") == is_json


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match="expected auto, json or text, got 'xml'"):
        logs.configure("xml")


def test_unknown_level_is_refused():
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure("json", "loud")
