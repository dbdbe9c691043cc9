"""What a worker says of its work, added up where exporters read it.

A call adds to a few doubles and returns. It formats, allocates and sends
nothing, so that it may stand on the path of every request. Everything here is
for one thread, the serving loop's; there is no lock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Mapping

from ranker.callers import MOST_CALLERS
from ranker.errors import Code
from ranker.metrics import catalogue
from ranker.metrics.access_log import AccessLog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.caller_recorder import CallerRecorder
from ranker.metrics.drift_log import DriftLog
from ranker.metrics.layout import OTHER_CALLERS, UNKNOWN, Name, by_value
from ranker.metrics.model_recorder import ModelRecorder
from ranker.metrics.unit_sample import UnitSample


class Recorder:
    """Records one worker's work in its slot.

    Args:
        aggregates: where to record.
        worker: which worker this process is, from 0.
        access_log: where requests are logged, if they are.
        drift_log: where counts of features go, if they are counted.

    Attributes:
        access_log: likewise.
        drift_log: likewise.
        beat: takes the time, as a sign that this process moves; see `ranker.process.heartbeat`.
        in_flight: one number, for a transport: see `ranker.rpc.RpcCounts`.
        waited: likewise.
    """

    def __init__(
        self,
        aggregates: Aggregates,
        worker: int = 0,
        access_log: AccessLog | None = None,
        drift_log: DriftLog | None = None,
    ) -> None:
        slot = aggregates.slots[worker]
        self.access_log = access_log
        self.drift_log = drift_log
        slot.occupy()
        cells, places = slot.cells, aggregates.layout.plan.cells
        self.beat = slot.beat
        self._aggregates = aggregates
        self._slot = slot
        self._cells = cells
        self._samples = aggregates.layout.plan.units
        begin = places[catalogue.RPCS_IN_FLIGHT][0]
        self.in_flight = cells[begin : begin + 1]
        [begin] = places[catalogue.WORKER_WAIT]
        self.waited = cells[begin : begin + 1]
        [self._worked] = places[catalogue.WORKER_BUSY]
        [self._engine_load] = places[catalogue.ENGINE_LOAD]
        [self._shadow_busy] = places[catalogue.SHADOW_BUSY]
        self._rpcs = dict(
            zip((*aggregates.layout.methods, ""), places[catalogue.RPCS][:: len(Code)], strict=True)
        )
        self._queue_rows = places[catalogue.QUEUE_ROWS][0]
        self._explanation_rows = places[catalogue.EXPLANATION_ROWS][0]
        self._evicted = by_value(catalogue.EVICTED_REASON, places[catalogue.RPCS_EVICTED])
        self._closed = by_value(catalogue.CLOSED_REASON, places[catalogue.CONNECTIONS_CLOSED])
        self._memory_limit = places[catalogue.MEMORY_LIMIT][0]
        self._collections = places[catalogue.GC_COLLECTIONS]
        self._gc_pause = places[catalogue.GC_PAUSE][0]
        self._gc_began = 0.0
        cells[places[catalogue.WORKERS][0]] = 1.0
        [self._serving] = places[catalogue.WORKERS_SERVING]
        gc.callbacks.append(self._collected)

    def close(self) -> None:
        """Stops watching the garbage collector. What was counted stays."""
        gc.callbacks.remove(self._collected)

    def ended(self, method: str) -> memoryview[float]:
        """The RPCs of a method that have ended, by `Code`; see `ranker.rpc.RpcCounts`."""
        begin = self._rpcs[method]
        return self._cells[begin : begin + len(Code)]

    def rpc_evicted(self, reason: str) -> None:
        """An RPC has been ended to make room; see `ranker.rpc.RpcCounts`."""
        self._cells[self._evicted[reason]] += 1.0

    def connection_closed(self, reason: str) -> None:
        """A caller's connection has been closed; see `ranker.rpc.RpcCounts`."""
        self._cells[self._closed[reason]] += 1.0

    def memory_limited(self, limit: int) -> None:
        """The bytes of resident memory from which on connections are closed."""
        self._cells[self._memory_limit] = limit

    def model(self, number: int, name: Name) -> ModelRecorder:
        """Where to record what one model does.

        Args:
            number: which of the layout's models it is.
            name: its name and version.
        """
        self._aggregates.name_model(number, name)
        return ModelRecorder(self._aggregates, self._slot.index, number, name, self.access_log)

    def unknown_model(self) -> ModelRecorder:
        """Where to record requests that name no model that is served, or were not read."""
        number = self._aggregates.layout.models
        return ModelRecorder(
            self._aggregates, self._slot.index, number, (UNKNOWN, ""), self.access_log
        )

    def only_served(self, numbers: Collection[int]) -> None:
        """These models are served from now on, and no others: units of those are forgotten.

        Else the units that a version had of a split would come back with it, while the other
        versions of that split had begun anew.
        """
        for number, begin in enumerate(self._samples):
            if number not in numbers:
                UnitSample(self._cells, begin).start(0.0)

    def caller(self, name: str) -> CallerRecorder:
        """Where to record what a caller asks; with the others if it has no number any more."""
        known = self._aggregates.callers()
        return self._caller(known.index(name)) if name in known else self.other_callers()

    def other_callers(self) -> CallerRecorder:
        """Where to record what callers ask that the operator has not named."""
        return self._other_callers("other")

    def nameless_caller(self) -> CallerRecorder:
        """Where to record what callers without a name ask."""
        return self._other_callers("none")

    def _other_callers(self, kind: str) -> CallerRecorder:
        return self._caller(MOST_CALLERS + OTHER_CALLERS.index(kind))

    def _caller(self, number: int) -> CallerRecorder:
        return CallerRecorder(self._aggregates, self._slot.index, number)

    def serving(self, serves: bool) -> None:
        """Whether this worker's health says SERVING."""
        self._cells[self._serving] = float(serves)

    def queue_changed(self, rows: int) -> None:
        """So many candidates now wait to be scored."""
        self._cells[self._queue_rows] = rows

    def explanations_changed(self, rows: int) -> None:
        """So many candidates are now to be explained."""
        self._cells[self._explanation_rows] = rows

    def loop_worked(self, seconds: float) -> None:
        """The loop has worked; see `ranker.serving.loop_load`."""
        self._cells[self._worked] += seconds

    def engine_worked(self, seconds: float) -> None:
        """An engine has scored a batch: what counts of it as load."""
        self._cells[self._engine_load] += seconds

    def shadow_worked(self, seconds: float) -> None:
        """The loop has spent time that it had to spare on a shadow."""
        self._cells[self._shadow_busy] += seconds

    def transport_chosen(self, transport: str, reason: str) -> None:
        """Which transport runs (`core`, `aio`), and why."""
        texts = {"transport": transport, "reason": reason}
        self._slot.write_info(catalogue.TRANSPORT_INFO, 0, texts)

    def simd_found(self, level: str, reason: str) -> None:
        """Which vector instructions the simd engine can use here (`none`), and why."""
        self._slot.write_info(catalogue.SIMD_INFO, 0, {"level": level, "reason": reason})

    def gpu_used(self, pci_bus_id: str) -> None:
        """Which GPU an engine uses."""
        self._slot.write_info(catalogue.GPU_INFO, 0, {"pci_bus_id": pci_bus_id})

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        # The collector may run on any thread, within any allocation, and never twice at
        # once. These cells are its own.
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self._cells[self._gc_pause] += time.perf_counter() - self._gc_began
            self._cells[self._collections[info["generation"]]] += 1.0
