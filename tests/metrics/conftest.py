from collections.abc import Iterator

import pytest

from ranker.metrics.aggregates import Aggregates
from ranker.metrics.recorder import Recorder
from tests.metrics.support import LAYOUT


@pytest.fixture
def aggregates() -> Aggregates:
    return Aggregates.private(LAYOUT)


@pytest.fixture
def recorder(aggregates: Aggregates) -> Iterator[Recorder]:
    recorder = Recorder(aggregates)
    yield recorder
    recorder.close()
