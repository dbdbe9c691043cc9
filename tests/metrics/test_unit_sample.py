"""The sample of a split's units: each counts once, on whatever worker, however often it asks."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from ranker.metrics import catalogue as catalog
from ranker.metrics import unit_sample
from ranker.metrics.reader import Reader
from ranker.metrics.snapshot import snapshot
from ranker.metrics.supervisor_recorder import NamedModel, SupervisorRecorder
from ranker.metrics.unit_sample import BUCKETS, SplitCheck, p_value, split_checks
from ranker.repository.traffic import Split
from tests.metrics.support import Worker, new_aggregates, nonzero, value

STABLE, CANARY = 0, 1
SHARES = {"stable": 90.0, "canary": 10.0}


class Server:
    """A server with two versions that share the traffic."""

    def __init__(self, workers: int = 2) -> None:
        self.aggregates = new_aggregates([("books", "7"), ("books", "8"), ("films", "1")], workers)
        self.supervisor = SupervisorRecorder(self.aggregates)
        self.workers = [Worker(self.aggregates, index) for index in range(workers)]
        self.split(SHARES)

    def split(self, shares: dict[str, float], mark: float = 1.0) -> None:
        self.arm = Split(shares, "s").arm
        for index in range(len(self.workers)):
            self.serve(index, mark)
        stable, canary = (shares[label] / 100 for label in ("stable", "canary"))
        models = {0: NamedModel(["stable"], mark, stable), 1: NamedModel(["canary"], mark, canary)}
        self.supervisor.switched(1, models)

    def serve(self, worker: int, mark: float) -> None:
        for number in (STABLE, CANARY):
            self.workers[worker].model(number).split_served(mark)

    def ask(self, units: Iterable[str], worker: int = 0) -> None:
        models = [self.workers[worker].model(number) for number in (STABLE, CANARY)]
        for unit in units:
            models[self.arm(unit) == "canary"].request_split(unit)

    def check(self) -> SplitCheck:
        [check] = split_checks(self.aggregates)
        return check


@pytest.fixture
def server() -> Server:
    return Server()


def readers(count: int, begin: int = 0) -> list[str]:
    return [f"reader-{i}" for i in range(begin, begin + count)]


def test_a_proper_split_has_its_shares(server):
    server.ask(readers(50_000))
    check = server.check()
    assert (check.model, check.versions, check.shares) == ("books", ("7", "8"), (0.9, 0.1))
    assert 0.99 * BUCKETS < sum(check.units) <= BUCKETS
    assert check.p_value > 0.001


def test_units_of_one_kind_are_noticed(server):
    """As if somebody upstream had given most canary readers to another service."""
    server.ask(
        unit for i, unit in enumerate(readers(20_000)) if server.arm(unit) == "stable" or i % 5
    )
    check = server.check()
    assert check.units[1] / sum(check.units) == pytest.approx(0.8 / 9.8, abs=0.015)
    assert check.p_value < 0.001


def test_a_busy_reader_counts_once(server):
    units = readers(2000)
    server.ask(units)
    once = server.check()
    busy = next(unit for unit in units if server.arm(unit) == "canary")
    server.ask([busy] * 10_000)
    assert server.check() == once


def test_the_same_units_on_two_workers_count_once(server):
    server.ask(readers(3000), worker=0)
    alone = server.check()
    server.ask(readers(3000), worker=1)
    assert server.check() == alone


@given(st.integers(0, 2**32 - 1).map(random.Random), st.integers(1, 300))
def test_two_workers_have_the_sample_of_one(dice: random.Random, count: int):
    one, two = Server(1), Server(2)
    for unit in readers(count):
        one.ask([unit])
        two.ask([unit], worker=dice.randrange(2))
    assert two.check() == one.check()


def test_requests_without_a_unit_are_not_in_it(server):
    server.workers[0].model(CANARY).request_split("")
    assert server.check().units == (0, 0)


def test_another_split_starts_anew_and_the_same_goes_on(server):
    server.ask(readers(2000))
    before = server.check()
    server.split(SHARES)
    assert server.check() == before
    server.split({"stable": 50.0, "canary": 50.0}, mark=2.0)
    assert server.check().units == (0, 0)
    server.ask(readers(2000))
    assert server.check().p_value > 0.001


def test_a_worker_that_replaces_another_goes_on(server):
    server.ask(readers(2000), worker=1)
    before = server.check()
    server.aggregates.slots[1].vacate()
    server.workers[1] = Worker(server.aggregates, 1)
    server.serve(1, 1.0)
    assert server.check() == before


def test_a_worker_that_has_not_switched_yet_is_left_out(server):
    server.ask(readers(2000), worker=1)
    server.split(SHARES, mark=2.0)
    server.serve(1, 1.0)
    server.ask(readers(1000), worker=1)
    assert server.check().units == (0, 0)


def test_no_worker_has_switched_yet(server):
    server.ask(readers(2000))
    server.split(SHARES, mark=2.0)
    for worker in (0, 1):
        server.serve(worker, 1.0)
    assert server.check().units == (0, 0)


def test_a_version_without_a_split_and_one_that_has_gone_are_not_told(server):
    server.ask(readers(2000))
    server.supervisor.switched(2, {0: NamedModel(["stable"])})
    assert list(split_checks(server.aggregates)) == []


def test_a_version_that_takes_over_a_number_has_no_units(server):
    server.ask(readers(2000))
    server.aggregates.clear_model(CANARY)
    server.aggregates.name_model(CANARY, ("books", "9"))
    server.supervisor.switched(2, {0: NamedModel([], 1.0, 0.9), 1: NamedModel([], 1.0, 0.1)})
    server.serve(0, 1.0)
    assert server.check().units[1] == 0


def test_metrics(server):
    server.ask(readers(5000))
    reader = Reader(server.aggregates)
    try:
        families = reader.snapshot()
    finally:
        reader.close()
    check = server.check()
    assert value(families, catalog.SPLIT_SHARE, "books", "8") == 0.1
    assert value(families, catalog.SPLIT_UNITS, "books", "8") == check.units[1]
    assert value(families, catalog.SPLIT_P_VALUE, "books") == check.p_value
    assert nonzero(snapshot(server.aggregates))["ranker_split_requests_total"] == {
        ("books", "7"): pytest.approx(4500, abs=150),
        ("books", "8"): pytest.approx(500, abs=150),
    }


@given(
    st.lists(st.integers(5, 10_000), min_size=2, max_size=6).filter(lambda n: sum(n) >= 1000),
    st.lists(st.integers(1, 100), min_size=6, max_size=6),
)
def test_p_value_is_that_of_scipy(units: list[int], weights: list[int]):
    weights = weights[: len(units)]
    shares = [weight / sum(weights) for weight in weights]
    found = p_value(units, shares)
    if min(shares) * sum(units) < 5:
        assert found is None
    else:
        expected = [share * sum(units) for share in shares]
        assert found == pytest.approx(chisquare(units, expected).pvalue, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("degrees", range(1, 9))
@pytest.mark.parametrize("x", [0.0, 1e-9, 0.5, 3.84, 20.0, 500.0])
def test_the_tail_of_chi_squared(degrees: int, x: float):
    found = unit_sample._chi_squared_tail(x, degrees)
    assert found == pytest.approx(chi2.sf(x, degrees), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("units", "shares"),
    [
        pytest.param((900, 99), (0.9, 0.1), id="few-units"),
        pytest.param((2000, 0), (0.999, 0.001), id="few-expected"),
        pytest.param((2000,), (1.0,), id="one-version"),
    ],
)
def test_nothing_is_said_where_nothing_can_be(units, shares):
    assert p_value(units, shares) is None
