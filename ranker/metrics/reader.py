"""All metrics of a server, as exporters read them: what was recorded, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event, Lock, Thread

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.drift import Drift
from ranker.metrics.drift import families as drift_families
from ranker.metrics.families import Family, Sample
from ranker.metrics.gpu import GpuMonitor
from ranker.metrics.process_figures import ProcessFigures
from ranker.metrics.snapshot import snapshot
from ranker.metrics.unit_sample import SplitCheck, split_checks
from ranker.metrics.utilization import Utilization

_TICK_SECONDS = 1.0


class Reader:
    """The `families.Source` of a server; one per server, in its office.

    A thread looks at the engines' busy time once a second, so that utilisation
    is that of the last ten seconds whoever reads, and however often.

    Args:
        aggregates: what was counted.
        drift: what was counted of features; None: nothing.

    Attributes:
        drift: likewise.
    """

    def __init__(self, aggregates: Aggregates, drift: Drift | None = None) -> None:
        self.drift = drift or Drift()
        self.started = aggregates.started
        self._aggregates = aggregates
        self._processes = ProcessFigures(aggregates)
        self._gpu = GpuMonitor()
        self._utilization = Utilization(aggregates)
        self._lock = Lock()
        self._closed = Event()
        self._thread = Thread(target=self._tick, name="metrics-tick", daemon=True)
        self._thread.start()

    def snapshot(self) -> Sequence[Family]:
        """Every metric now, in the catalogue's order. May be called from any thread."""
        families = {family.metric: family for family in snapshot(self._aggregates)}
        with self._lock:
            gpus = [sample.labels[0] for sample in families[catalogue.GPU_INFO].samples]
            for family in (
                *self._utilization.read(),
                *self._processes.read(families[catalogue.PROCESS_CPU]),
                *self._gpu.read(gpus),
            ):
                families[family.metric] = family
        for family in (*_splits(self.splits()), *drift_families(self.drift.models())):
            families[family.metric] = family
        return [families[metric] for metric in catalogue.METRICS]

    def serving(self) -> int:
        """How many workers serve now."""
        [place] = self._aggregates.layout.plan.cells[catalogue.WORKERS_SERVING]
        return int(sum(slot.cells[place] for slot in self._aggregates.slots))

    def splits(self) -> list[SplitCheck]:
        """What is known of each split of the traffic. May be called from any thread."""
        return list(split_checks(self._aggregates))

    def close(self) -> None:
        """Stops the thread."""
        self._closed.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                self._utilization.tick()


def _splits(checks: Sequence[SplitCheck]) -> Iterator[Family]:
    """The families of the splits."""
    shares: list[Sample] = []
    units: list[Sample] = []
    for check in checks:
        for version, share, count in zip(check.versions, check.shares, check.units, strict=True):
            shares.append(Sample((check.model, version), share))
            units.append(Sample((check.model, version), float(count)))
    yield Family(catalogue.SPLIT_SHARE, tuple(shares))
    yield Family(catalogue.SPLIT_UNITS, tuple(units))
    found = [(check.model, check.p_value) for check in checks if check.p_value is not None]
    yield Family(catalogue.SPLIT_P_VALUE, tuple(Sample((name,), p) for name, p in found))
