from collections.abc import Iterator

import pytest

from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.reader import Reader


@pytest.fixture
def reader(aggregates: Aggregates) -> Iterator[Reader]:
    reader = Reader(aggregates)
    yield reader
    reader.close()


def test_snapshot_is_the_whole_catalogue_in_order(reader: Reader):
    assert [family.metric for family in reader.snapshot()] == list(catalog.METRICS)


def test_started_is_the_buffers(reader: Reader, aggregates: Aggregates):
    assert reader.started == aggregates.started


def test_utilization_thread_ticks(aggregates: Aggregates, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ranker.metrics.reader._TICK_SECONDS", 0.001)
    reader = Reader(aggregates)
    first = reader._utilization._seen[0]
    while reader._utilization._seen[0] == first:
        pass
    reader.close()
    assert not reader._thread.is_alive()
