import pytest

from ranker.metrics import catalogue as catalog
from ranker.metrics.utilization import Utilization
from tests.metrics.support import Worker, new_aggregates, value


def test_utilization_is_busy_time_over_time_and_workers(monkeypatch: pytest.MonkeyPatch):
    aggregates = new_aggregates(workers=2)
    recorders = [Worker(aggregates, worker) for worker in range(2)]
    now = 100.0
    monkeypatch.setattr("ranker.metrics.utilization.time.monotonic", lambda: now)
    utilization = Utilization(aggregates)
    try:
        ratio, workers = [], []
        for second in range(1, 26):
            now = 100.0 + second
            if second <= 10:
                recorders[0].batch_scored(0, 1, 1, [0.0], 0.5)
                recorders[1].batch_scored(1, 1, 1, [0.0], 0.25)
                recorders[0].engine_worked(0.5)
                recorders[0].loop_worked(0.25)
                recorders[1].loop_worked(0.75)
            families = list(utilization.read())
            ratio.append(value(families, catalog.ENGINE_UTILIZATION))
            workers.append(value(families, catalog.WORKER_UTILIZATION))
            utilization.tick()
    finally:
        for recorder in recorders:
            recorder.close()
    assert ratio[:10] == [pytest.approx(0.375)] * 10
    assert ratio[14] == pytest.approx(0.375 / 2)
    assert ratio[19:] == [0.0] * 6
    # One is bound by its engine, one by its loop.
    assert workers[:10] == [pytest.approx(0.625)] * 10
    assert workers[14] == pytest.approx(0.625 / 2)
    assert workers[19:] == [0.0] * 6
