"""What a server did over the last ten minutes: figures of each two seconds, from its metrics."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ranker.metrics import catalogue
from ranker.metrics.families import Distribution, Family, merged
from ranker.metrics.metric import Metric

STEP_SECONDS = 2.0
"""Between two points."""

KEPT_SECONDS = 600.0

_OTHER_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAUTHENTICATED",
    }
)
"""Of requests that fail without having been shed or having expired."""

_Labels = tuple[str, ...]
_Values = Mapping[_Labels, float | Distribution]


@dataclass(frozen=True)
class ModelPoint:
    """What one version of a model did.

    Attributes:
        requests: answered or refused, a second.
        p50: seconds that half of the answers took at most; None if there were none.
        p99: likewise for 99 of a hundred.
    """

    requests: float
    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class Point:
    """What the whole server did since the point before.

    Attributes:
        id: larger than that of any earlier point, also of an office that has died.
        time: at its end, in seconds since the Unix epoch.
        serving: the workers that serve.
        requests: answered or refused, a second.
        candidates: scored, a second.
        p50: seconds that half of the answers took at most; None if there were none.
        p99: likewise for 99 of a hundred.
        batch_requests: requests in a batch, the mean; None if there was no batch.
        queue_rows: candidates that wait.
        utilization: of each worker, from 0 to 1.
        refused: requests a second that were not ranked, by the reason.
        models: by name and version, as `name@version`.
        shadows: the mean overlap of the best ten with those of the version's shadow, from 0 to 1,
            as `name@version and shadow version`.
    """

    id: int
    time: float
    serving: int
    requests: float
    candidates: float
    p50: float | None
    p99: float | None
    batch_requests: float | None
    queue_rows: float
    utilization: tuple[float, ...]
    refused: Mapping[str, float]
    models: Mapping[str, ModelPoint]
    shadows: Mapping[str, float]


class History:
    """The points of the last `KEPT_SECONDS`.

    Args:
        read: what was recorded until now.
        clock: seconds since some moment.
        wall_clock: seconds since the Unix epoch.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[Family]],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._clock = clock
        self._wall_clock = wall_clock
        self._points: deque[Point] = deque(maxlen=round(KEPT_SECONDS / STEP_SECONDS))
        self._then = clock()
        self._counted = _by_metric(read())

    def tick(self) -> Point:
        """Adds the point of the time since the last one; call it every `STEP_SECONDS`."""
        now, counted = self._clock(), _by_metric(self._read())
        span = _Span(self._counted, counted, now - self._then)
        at = self._wall_clock()
        latest = self._points[-1].id if self._points else 0
        point = _point(span, max(round(1000 * at), latest + 1), at)
        self._points.append(point)
        self._then, self._counted = now, counted
        return point

    def since(self, last: int) -> list[Point]:
        """The points after the one with this id, the oldest first."""
        return [point for point in self._points if point.id > last]


def _by_metric(families: Sequence[Family]) -> dict[Metric, dict[_Labels, float | Distribution]]:
    return {
        family.metric: {sample.labels: sample.value for sample in family.samples}
        for family in families
    }


class _Span:
    """What was counted between two moments. A series that is new began at zero.

    Args:
        before: what had been counted at first.
        after: and at last.
        seconds: between them.
    """

    def __init__(
        self, before: Mapping[Metric, _Values], after: Mapping[Metric, _Values], seconds: float
    ) -> None:
        self._before = before
        self._after = after
        self._seconds = max(seconds, 1e-9)

    def last(self, metric: Metric) -> dict[_Labels, float]:
        """A gauge's values at the end."""
        values = self._after.get(metric, {}).items()
        return {labels: value for labels, value in values if not isinstance(value, Distribution)}

    def rates(self, metric: Metric) -> dict[_Labels, float]:
        """How much a counter grew, a second."""
        before, rates = self._before.get(metric, {}), dict[_Labels, float]()
        for labels, value in self._after.get(metric, {}).items():
            then = before.get(labels, 0.0)
            if not isinstance(value, Distribution) and not isinstance(then, Distribution):
                rates[labels] = max(0.0, value - then) / self._seconds
        return rates

    def observed(self, metric: Metric) -> dict[_Labels, Distribution]:
        """What a histogram took in."""
        before, found = self._before.get(metric, {}), dict[_Labels, Distribution]()
        for labels, value in self._after.get(metric, {}).items():
            if isinstance(value, Distribution):
                then = before.get(labels)
                found[labels] = value.since(then) if isinstance(then, Distribution) else value
        return found


def _point(span: _Span, number: int, at: float) -> Point:
    requests = span.rates(catalogue.REQUESTS)
    durations = {
        labels[:2]: taken
        for labels, taken in span.observed(catalogue.REQUEST_DURATION).items()
        if labels[2] == "ok"
    }
    batches = merged(span.observed(catalogue.BATCH_REQUESTS).values())
    names = sorted({labels[:2] for labels in requests} | set(durations))
    p50, p99 = _quantiles(merged(durations.values()))
    return Point(
        id=number,
        time=at,
        serving=round(sum(span.last(catalogue.WORKERS_SERVING).values())),
        requests=sum(requests.values()),
        candidates=sum(span.rates(catalogue.CANDIDATES_SCORED).values()),
        p50=p50,
        p99=p99,
        batch_requests=batches.sum / batches.count if batches and batches.count else None,
        queue_rows=sum(span.last(catalogue.QUEUE_ROWS).values()),
        utilization=_utilization(span),
        refused=_refused(span, requests),
        models={
            f"{name}@{version}": ModelPoint(
                sum(rate for labels, rate in requests.items() if labels[:2] == (name, version)),
                *_quantiles(durations.get((name, version))),
            )
            for name, version in names
            if version  # else requests asked for a model that there is not
        },
        shadows={
            f"{name}@{version} and {shadow}": overlap.sum / overlap.count
            for (name, version, shadow), overlap in span.observed(catalogue.SHADOW_OVERLAP).items()
            if overlap.count
        },
    )


def _quantiles(taken: Distribution | None) -> tuple[float | None, float | None]:
    """The p50 and the p99."""
    if taken is None:
        return None, None
    bounds = catalogue.REQUEST_DURATION.buckets
    return taken.quantile(bounds, 0.5), taken.quantile(bounds, 0.99)


def _utilization(span: _Span) -> tuple[float, ...]:
    """Each worker's loop or engine, whichever has the higher load."""
    loops, engines = span.rates(catalogue.WORKER_BUSY), span.rates(catalogue.ENGINE_LOAD)
    workers = sorted((each for each in loops if each[0].isdecimal()), key=lambda each: int(each[0]))
    return tuple(min(1.0, max(loops[each], engines.get(each, 0.0))) for each in workers)


def _refused(span: _Span, requests: Mapping[_Labels, float]) -> dict[str, float]:
    """Why requests were not ranked: on arrival, while they waited, or by a status of their own."""
    refused: defaultdict[str, float] = defaultdict(float)
    for metric in (catalogue.SHED, catalogue.EXPIRED):
        for labels, rate in span.rates(metric).items():
            refused[("" if metric is catalogue.SHED else "waiting: ") + labels[-1]] += rate
    for labels, rate in requests.items():
        if labels[-1] in _OTHER_CODES:
            refused[labels[-1]] += rate
    return {reason: rate for reason, rate in refused.items() if rate}
