"""What the status page shows of the last ten minutes."""

from __future__ import annotations

import pytest

from ranker.errors import Code
from ranker.metrics import catalogue
from ranker.metrics.snapshot import snapshot
from ranker.office.history import KEPT_SECONDS, STEP_SECONDS, History
from tests.metrics.support import Worker, new_aggregates

STEPS = round(KEPT_SECONDS / STEP_SECONDS)


class Server:
    """A server's records, on a clock that the test moves."""

    def __init__(self) -> None:
        self.aggregates = new_aggregates(workers=2)
        self.workers = [Worker(self.aggregates, index) for index in range(2)]
        self.now = 100.0
        self.history = History(
            lambda: snapshot(self.aggregates), lambda: self.now, lambda: 1e9 + self.now
        )

    def tick(self, seconds: float = STEP_SECONDS):
        self.now += seconds
        return self.history.tick()

    def cell(self, worker: int, metric):
        [place] = self.aggregates.layout.plan.cells[metric]
        return self.aggregates.slots[worker].cells, place

    def rank(self, model: int, code: int = Code.OK, seconds: float = 0.001) -> None:
        self.workers[0].request_finished(model, code, 10, 1.0, seconds)


@pytest.fixture
def server() -> Server:
    return Server()


def test_what_was_counted_before_is_not_shown(server):
    server.rank(0)
    history = History(lambda: snapshot(server.aggregates), lambda: server.now)
    server.now += 2.0
    assert history.tick().requests == 0.0


def test_rates_are_per_second_and_per_model(server):
    for _ in range(30):
        server.rank(0)
    for _ in range(10):
        server.rank(1)
    point = server.tick(4.0)
    assert point.requests == 10.0
    assert {name: model.requests for name, model in point.models.items()} == {
        "books@1": 7.5,
        "films@2024-05": 2.5,
    }
    assert server.tick(4.0).requests == 0.0


def test_quantiles_are_of_what_was_ranked_since_the_last_point(server):
    server.rank(0, seconds=4.0)
    server.tick()
    for _ in range(98):
        server.rank(0, seconds=0.0011)
    server.rank(1, seconds=0.9)
    server.rank(0, Code.RESOURCE_EXHAUSTED, seconds=3.0)
    point = server.tick()
    assert point.p50 == pytest.approx(0.0011, rel=0.15)
    assert point.models["films@2024-05"].p99 == pytest.approx(0.9, rel=0.15)
    assert point.models["books@1"].p99 == pytest.approx(0.0011, rel=0.15)


def test_no_answer_has_no_latency(server):
    point = server.tick()
    assert (point.p50, point.p99, point.batch_requests) == (None, None, None)


def test_workers_are_as_busy_as_their_loop_or_their_engine(server):
    for worker, metric, seconds in (
        (0, catalogue.WORKER_BUSY, 0.5),
        (0, catalogue.ENGINE_LOAD, 0.2),
        (1, catalogue.WORKER_BUSY, 0.1),
        (1, catalogue.ENGINE_LOAD, 1.5),
    ):
        cells, place = server.cell(worker, metric)
        cells[place] += seconds
    assert server.tick(2.0).utilization == pytest.approx((0.25, 0.75))


def test_requests_that_were_not_ranked_by_their_reason(server):
    for _ in range(2):
        server.workers[0].model(0).request_shed("queue_rows")
    server.workers[0].model(0).request_expired("deadline")
    server.rank(-1, Code.NOT_FOUND)
    server.rank(0, Code.RESOURCE_EXHAUSTED)
    server.rank(0)
    assert server.tick(2.0).refused == {
        "queue_rows": 1.0,
        "waiting: deadline": 0.5,
        "NOT_FOUND": 0.5,
    }


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"])
def test_a_request_that_is_counted_and_not_ranked_is_shown_as_refused(server, code):
    server.rank(-1, Code[code])
    point = server.tick(2.0)
    assert point.requests == 0.5
    assert point.refused == {code: 0.5}


def test_ten_minutes_are_kept(server):
    for _ in range(STEPS + 5):
        last = server.tick()
    points = server.history.since(0)
    assert len(points) == STEPS
    assert points[-1] == last
    assert server.history.since(points[-3].id) == points[-2:]
    assert [p.id for p in points] == sorted({p.id for p in points})


def test_ids_go_on_in_the_next_office(server):
    last = server.tick()
    server.now += 2.0
    following = History(lambda: snapshot(server.aggregates), lambda: 7.0, lambda: 1e9 + server.now)
    assert following.tick().id > last.id
