from collections.abc import Iterator

import pytest

from exporters.aggregates import Aggregates
from exporters.recorder import Recorder
from tests.exporters.support import LAYOUT


@pytest.fixture
def aggregates() -> Aggregates:
    return Aggregates.private(LAYOUT)


@pytest.fixture
def recorder(aggregates: Aggregates) -> Iterator[Recorder]:
    recorder = Recorder(aggregates)
    yield recorder
    recorder.close()
