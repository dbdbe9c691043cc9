from collections.abc import Callable, Iterator

import pytest

from ranker.metrics import access_log_writer
from ranker.metrics.aggregates import Aggregates
from tests.metrics.logging_server import LoggingServer
from tests.metrics.support import Worker, new_aggregates


@pytest.fixture
def aggregates() -> Aggregates:
    return new_aggregates()


@pytest.fixture
def recorder(aggregates: Aggregates) -> Iterator[Worker]:
    worker = Worker(aggregates)
    yield worker
    worker.close()


@pytest.fixture
def make(monkeypatch) -> Iterator[Callable[..., LoggingServer]]:
    # An office has time to write all, also where others have the cores.
    monkeypatch.setattr(access_log_writer, "_CLOSING_SECONDS", 30.0)
    made: list[LoggingServer] = []

    def make(*arguments) -> LoggingServer:
        made.append(LoggingServer(*arguments))
        return made[-1]

    yield make
    for server in made:
        server.close()
