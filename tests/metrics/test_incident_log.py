"""Bugs that a worker has logged, as the office hears of them."""

from __future__ import annotations

import logging
import os
import tempfile

import pytest

from ranker.incident import incident
from ranker.metrics import access_log
from ranker.metrics.access_log_writer import AccessLogWriter
from ranker.metrics.incident_log import IncidentLog
from tests.metrics.support import new_aggregates


class Sink:
    def __init__(self) -> None:
        self.incidents: list[tuple[str, ...]] = []

    def add_request(self, line) -> None:
        raise AssertionError(line)

    def add_incident(self, *facts: str) -> None:
        self.incidents.append(facts)


@pytest.fixture
def ends():
    workers, office = access_log.connect()
    with workers, office:
        yield workers, office


@pytest.fixture
def logger(ends):
    logger = logging.getLogger("test.incidents")
    handler = IncidentLog(os.dup(ends[0].fileno()), 3)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def test_an_incident_is_told_without_its_exception(ends, logger):
    logger.error("no bug")
    told = incident(logger, "scoring failed", ValueError("feature 17.25"))
    sink = Sink()
    fds = (os.dup(end.fileno()) for end in reversed(ends))
    with tempfile.TemporaryFile() as output:
        AccessLogWriter(*fds, new_aggregates(), output=output.fileno(), errors=sink).close()
        output.seek(0)
        assert output.read() == b""
    [(_, mark, what, process)] = sink.incidents
    assert f"[{mark}]" in told
    assert (what, process) == ("scoring failed", "worker 3")


def test_an_office_that_does_not_read_stops_nobody(logger):
    for _ in range(20_000):
        logger.error("x", extra={"incident": "ab12"})
