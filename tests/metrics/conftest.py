from collections.abc import Iterator

import pytest

from ranker.metrics.aggregates import Aggregates
from tests.metrics.support import Worker, new_aggregates


@pytest.fixture
def aggregates() -> Aggregates:
    return new_aggregates()


@pytest.fixture
def recorder(aggregates: Aggregates) -> Iterator[Worker]:
    worker = Worker(aggregates)
    yield worker
    worker.close()
