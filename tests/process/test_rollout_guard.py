"""The guard's view of the counts: all workers', of some minutes, of what is served."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ranker.errors import Code
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.catalogue import LATENCY_SECONDS
from ranker.process.rollout import Plan, PreparedModel
from ranker.process.rollout_guard import RolloutGuard
from ranker.process.shared_files import SharedFiles
from ranker.repository.rollout_limits import LONGEST_SECONDS, RolloutLimits
from ranker.repository.wanted import WantedRoute
from tests.metrics.support import Worker, new_aggregates

NAMES = (("books", "7"), ("books", "8"), ("films", "1"))
LABELS = {"stable": "7", "canary": "8"}
SPLIT = {"stable": 95.0, "canary": 5.0}
LIMITS = RolloutLimits(0.01, 0.02)
MODELS = [
    PreparedModel(f"{name}@{version}@ab", number, number, SharedFiles(()))
    for number, (name, version) in enumerate(NAMES)
]


def test_the_longest_limit_is_the_histograms_last_bound():
    """A longer one would have nothing count as slow."""
    assert LATENCY_SECONDS[-1] == LONGEST_SECONDS


def plan(
    traffic: Mapping[str, float] = SPLIT,
    limits: RolloutLimits | None = LIMITS,
    labels: Mapping[str, str] = LABELS,
) -> Plan:
    route = WantedRoute("7", labels, traffic, "s", limits, "entry")
    return Plan(1, MODELS, {"books": route, "films": WantedRoute("1")})


class Setup:
    def __init__(self) -> None:
        self.aggregates: Aggregates = new_aggregates(NAMES, workers=2)
        self.workers = [Worker(self.aggregates, index) for index in (0, 1)]
        self.guard = RolloutGuard(self.aggregates)
        self.now = 100.0

    def rank(self, version: str, count: int, code: int = Code.OK, seconds: float = 0.001) -> None:
        """So many requests for a version, the half on each worker."""
        number = NAMES.index(("books", version))
        for i in range(count):
            self.workers[i % 2].request_finished(number, code, 1, 1.0, seconds)

    def label(self) -> str | None:
        """Looks again after some time: whose traffic is to go."""
        self.now += 2.0
        breach = self.guard.look(self.now)
        return None if breach is None else " and ".join(breach.labels)


@pytest.fixture
def s() -> Setup:
    setup = Setup()
    setup.guard.watch(plan())
    assert setup.label() is None
    return setup


@pytest.mark.parametrize(
    ("code", "label"),
    [
        pytest.param(Code.INVALID_ARGUMENT, "canary", id="caller"),
        pytest.param(Code.INTERNAL, "canary", id="server"),
        pytest.param(Code.DEADLINE_EXCEEDED, "canary", id="late"),
        pytest.param(Code.CANCELLED, None, id="callers-that-go-away"),
    ],
)
def test_errors_of_any_code_but_the_callers_own_count(s, code, label):
    s.rank("7", 1000)
    s.rank("8", 120)
    assert s.label() is None
    s.rank("8", 120, code)
    assert s.label() == label


def test_slow_answers_count(s):
    s.rank("7", 1000)
    s.rank("8", 200, seconds=0.0199)
    assert s.label() is None
    s.rank("8", 20, seconds=0.021)
    assert s.label() == "canary"


def test_what_was_before_the_split_does_not_count():
    s = Setup()
    s.rank("7", 1000)
    s.rank("8", 500, Code.INTERNAL)
    s.guard.watch(plan())
    s.rank("7", 500)
    s.rank("8", 99, Code.INTERNAL)
    assert s.label() is None  # the first look, where the window begins
    s.rank("7", 500)
    s.rank("8", 200)
    assert s.label() is None


def test_a_worker_that_dies_takes_no_counts_along(s):
    s.rank("7", 1000)
    s.rank("8", 150, Code.INTERNAL)
    for slot in s.aggregates.slots[:2]:
        slot.vacate()
    assert s.label() == "canary"


def test_a_switch_that_changes_nothing_here_goes_on(s):
    s.rank("7", 1000)
    s.rank("8", 150, Code.INTERNAL)
    s.guard.watch(plan())
    assert s.label() == "canary"


def test_all_labels_of_a_bad_version_lose_their_traffic_at_once():
    s = Setup()
    labels = {"stable": "7", "canary": "8", "none": "8", "same": "7", "beta": "8"}
    traffic = {"stable": 85.0, "canary": 5.0, "none": 0.0, "same": 5.0, "beta": 5.0}
    s.guard.watch(plan(traffic, labels=labels))
    assert s.label() is None
    s.rank("7", 1000)
    s.rank("8", 150, Code.INTERNAL)
    assert s.label() == "canary and beta"


def test_another_split_begins_anew(s):
    s.rank("7", 1000)
    s.rank("8", 150, Code.INTERNAL)
    s.guard.watch(plan({"stable": 90.0, "canary": 10.0}))
    assert s.label() is None


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"limits": None}, id="no-guard"),
        pytest.param({"traffic": {"stable": 100.0, "canary": 0.0}}, id="no-share"),
        pytest.param({"traffic": {"stable": 0.0, "canary": 100.0}}, id="stable-has-no-share"),
        pytest.param({"traffic": {}}, id="no-split"),
        pytest.param({"labels": {"stable": "7", "canary": "7"}}, id="one-version"),
    ],
)
def test_nobody_is_watched_where_there_is_nothing_to_compare(changed):
    s = Setup()
    s.guard.watch(plan(**changed))
    assert s.label() is None
    s.rank("7", 1000)
    s.rank("8", 1000, Code.INTERNAL)
    assert s.label() is None


def test_the_counts_are_not_looked_at_all_the_time(s):
    s.rank("7", 1000)
    s.rank("8", 1000, Code.INTERNAL)
    assert s.guard.look(s.now + 0.5) is None
    assert s.guard.look(s.now + 1.0) is not None
