"""Watches versions that have a share of the traffic beside the stable one, while they serve.

What they do is read from the metrics' file, which has the counts of all workers, those that have
died included; what is too bad is said in `ranker.repository.rollout_limits`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from ranker.errors import Code
from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.catalogue import LATENCY_SECONDS
from ranker.process.rollout import Plan
from ranker.repository.rollout_limits import Counts, RolloutLimits, Window, verdict
from ranker.repository.traffic import STABLE
from ranker.repository.wanted import WantedRoute

LOOK_SECONDS = 1.0
"""How often the counts are looked at."""

_STEPS = 30
"""In how many steps a window moves on."""

_OK = 0


class Breach(NamedTuple):
    """A version that is to lose its share of the traffic.

    Attributes:
        name: of the model.
        route: how its requests have found their version.
        labels: those of its labels that have a share.
        slot: the version's number in the metrics.
        reason: why.
    """

    name: str
    route: WantedRoute
    labels: tuple[str, ...]
    slot: int
    reason: str


class _Watched(NamedTuple):
    """A model with a guard: its labels with traffic, `stable` first, and their numbers."""

    route: WantedRoute
    limits: RolloutLimits
    slots: Mapping[str, int]
    window: Window


class RolloutGuard:
    """Finds versions that are worse than the stable one.

    Args:
        aggregates: the metrics' file.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        self._workers = aggregates.slots[: aggregates.layout.workers]
        self._watched: dict[str, _Watched] = {}
        self._looked = 0.0

    def watch(self, plan: Plan) -> None:
        """Watches the versions of another generation; goes on where nothing has changed."""
        slots = {tuple(model.key.split("@")[:2]): model.slot for model in plan.models}
        before, self._watched = self._watched, {}
        for name, route in plan.routes.items():
            arms = [STABLE, *(arm for arm, share in route.traffic.items() if share > 0.0)]
            own = {arm: slots[name, route.labels[arm]] for arm in arms if arm in route.labels}
            if route.guard is None or len(set(own.values())) < 2 or not route.traffic.get(STABLE):
                continue
            known = before.get(name)
            if known is not None and (known.route, known.slots) == (route, own):
                self._watched[name] = known
            else:
                seconds = 60.0 * route.guard.minutes
                window = Window(seconds, seconds / _STEPS)
                self._watched[name] = _Watched(route, route.guard, own, window)

    def look(self, now: float) -> Breach | None:
        """The first version that is too bad, if there is one and it is time to look."""
        if not self._watched or now < self._looked + LOOK_SECONDS:
            return None
        self._looked = now
        for name, watched in self._watched.items():
            counts = [self._counts(slot, watched.limits) for slot in watched.slots.values()]
            stable, *others = watched.window.add(now, counts)
            for slot, its in zip(list(watched.slots.values())[1:], others, strict=True):
                if slot == watched.slots[STABLE]:
                    continue
                if reason := verdict(its, stable, watched.limits):
                    # With another one it would go on to rank, and be tried anew there.
                    labels = tuple(arm for arm, number in watched.slots.items() if number == slot)
                    return Breach(name, watched.route, labels, slot, reason)
        return None

    def _counts(self, number: int, limits: RolloutLimits) -> Counts:
        """What a version has done since it was loaded, on all workers."""
        layout = self._aggregates.layout
        codes = layout.of_model(catalogue.REQUESTS, number)
        durations = layout.of_model(catalogue.REQUEST_DURATION, number)[_OK]
        first = 0 if limits.p99 is None else bisect_left(LATENCY_SECONDS, limits.p99) + 1
        ended = failed = answered = slow = 0.0
        for worker in self._workers:
            by_code = [worker.cells[place] for place in codes]
            ended += sum(by_code) - by_code[Code.CANCELLED]
            failed += sum(by_code[1:]) - by_code[Code.CANCELLED]
            buckets = worker.cells[durations : durations + len(LATENCY_SECONDS) + 1].tolist()
            answered += sum(buckets)
            slow += sum(buckets[first:])
        return Counts(ended, failed, answered, slow)
