"""What the server says of its work, added up where exporters read it.

A call adds to a few doubles and returns. It formats, allocates and sends
nothing, so that it may stand on the path of every request.
"""

from __future__ import annotations

import gc
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf
from threading import Lock

from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import EXEMPLAR_CELLS, Aggregates
from ranker.metrics.catalogue import LATENCY_SECONDS, ROWS, SLACK_SECONDS
from ranker.metrics.trace import parse_traceparent

_SHED_REASONS = {value: i for i, (value,) in enumerate(catalog.SHED_REASON.values)}
_EXPIRED_REASONS = {value: i for i, (value,) in enumerate(catalog.EXPIRED_REASON.values)}
_EXPORT_OUTCOMES = {value: i for i, (value,) in enumerate(catalog.EXPORT_OUTCOME.values)}
_EXPORTERS = {value: i for i, (value,) in enumerate(catalog.EXPORTER.values)}
_OK, _ERROR = range(len(catalog.OUTCOME.values))

# A histogram's sum comes after its buckets, of which there is one more than bounds.
_LATENCY_SUM = len(LATENCY_SECONDS) + 1
_SLACK_SUM = len(SLACK_SECONDS) + 1
_ROWS_SUM = len(ROWS) + 1

# A bucket's exemplar stands this long at least: no scraper asks more often.
_EXEMPLAR_SECONDS = 1.0


class Recorder:
    """Records one worker process's work in its slot.

    `rpc_started` and `rpc_finished` take no lock, and are for one thread, the
    serving loop's; the other methods may be called from any. A `model` is an
    index into the layout's models, -1 if the request names none that is served.
    A `code` is the number of a gRPC status code. All times are in seconds.
    """

    def __init__(self, aggregates: Aggregates, worker: int = 0) -> None:
        """Takes over the worker's slot, and watches this process's garbage collector.

        Args:
            aggregates: where to record.
            worker: which worker this process is, from 0.
        """
        self._aggregates = aggregates
        self._slot = worker
        self._cells = aggregates.occupy(worker)
        self._lock = Lock()
        # Half the price of `with`, on the call that every request makes.
        self._acquire, self._release = self._lock.acquire, self._lock.release

        offsets = aggregates.offsets
        models = len(aggregates.layout.models) + 1
        methods = (*aggregates.layout.methods, "")
        self._rpcs = dict(zip(methods, _groups(offsets(catalog.RPCS), len(methods)), strict=True))
        self._unknown_rpc = self._rpcs.pop("")
        self._in_flight = offsets(catalog.RPCS_IN_FLIGHT)[0]
        # Per model, `unknown` last, which is where an index of -1 leads.
        self._finished = list(
            zip(
                _groups(offsets(catalog.REQUESTS), models),
                _groups(offsets(catalog.REQUEST_DURATION), models),
                _groups(aggregates.exemplar_offsets(catalog.REQUEST_DURATION), models),
                offsets(catalog.REQUEST_CANDIDATES),
                offsets(catalog.DEADLINE_SLACK),
                offsets(catalog.NO_DEADLINE),
                strict=True,
            )
        )
        self._shed = _groups(offsets(catalog.SHED), models)
        self._expired = _groups(offsets(catalog.EXPIRED), models)
        self._queue_rows = offsets(catalog.QUEUE_ROWS)[0]
        self._queue = offsets(catalog.QUEUE_DURATION)
        self._scoring = offsets(catalog.SCORING_DURATION)
        self._scored = offsets(catalog.CANDIDATES_SCORED)
        self._batch_rows = offsets(catalog.BATCH_ROWS)
        self._batch_requests = offsets(catalog.BATCH_REQUESTS)
        self._busy = offsets(catalog.ENGINE_BUSY)[0]
        self._loads = _groups(offsets(catalog.MODEL_LOADS), models)
        self._load_durations = offsets(catalog.MODEL_LOAD_DURATION)
        self._collections = offsets(catalog.GC_COLLECTIONS)
        self._gc_pause = offsets(catalog.GC_PAUSE)[0]
        self._gc_began = 0.0

        self._cells[offsets(catalog.WORKERS)[0]] = 1.0
        gc.callbacks.append(self._collected)

    def close(self) -> None:
        """Stops watching the garbage collector. What was counted stays."""
        gc.callbacks.remove(self._collected)

    def rpc_started(self) -> None:
        """An RPC has arrived. On the loop's thread only."""
        self._cells[self._in_flight] += 1.0

    def rpc_finished(self, method: str, code: int) -> None:
        """An RPC is over; every one that started, of any method, ends here.

        On the loop's thread only.

        Args:
            method: its full name; any other than the layout's counts as `unknown`.
            code: the status it ended with.
        """
        cells = self._cells
        cells[self._rpcs.get(method, self._unknown_rpc)[code]] += 1.0
        cells[self._in_flight] -= 1.0

    def request_finished(
        self,
        model: int,
        code: int,
        candidates: int,
        slack: float,
        seconds: float,
        traceparent: str | None = None,
    ) -> None:
        """A ranking request is over: a unary call, or one message of a stream.

        All that is counted once per request is counted here, so that it agrees.

        Args:
            model: the model that it asked for.
            code: its own status.
            candidates: how many it held; 0 if that was never known.
            slack: from its arrival to its caller's deadline; inf if there is none.
            seconds: from its arrival to its answer.
            traceparent: the header of that name, as the caller sent it.
        """
        cells = self._cells
        counts, durations, exemplars, sizes, slacks, no_deadline = self._finished[model]
        outcome = _ERROR if code else _OK
        duration = durations[outcome]
        bucket = bisect_left(LATENCY_SECONDS, seconds)
        self._acquire()
        try:
            cells[counts[code]] += 1.0
            cells[duration + bucket] += 1.0
            cells[duration + _LATENCY_SUM] += seconds
            if candidates:
                cells[sizes + bisect_left(ROWS, candidates)] += 1.0
                cells[sizes + _ROWS_SUM] += candidates
            if slack == inf:
                cells[no_deadline] += 1.0
            else:
                left = slack if slack > 0.0 else 0.0
                cells[slacks + bisect_left(SLACK_SECONDS, left)] += 1.0
                cells[slacks + _SLACK_SUM] += left
            if traceparent is not None:
                self._remember(exemplars[outcome], bucket, seconds, traceparent)
        finally:
            self._release()

    def request_shed(self, model: int, reason: str) -> None:
        """A ranking request was refused on arrival, for one of `catalog.SHED_REASON`."""
        self._add(self._shed[model][_SHED_REASONS[reason]], 1.0)

    def request_expired(self, model: int, reason: str) -> None:
        """A ranking request was dropped unscored, for one of `catalog.EXPIRED_REASON`."""
        self._add(self._expired[model][_EXPIRED_REASONS[reason]], 1.0)

    def batch_scored(
        self,
        model: int,
        rows: int,
        requests: int,
        queue_seconds: Sequence[float],
        scoring_seconds: float,
    ) -> None:
        """The engine has scored a batch.

        Args:
            model: the model that scored it.
            rows: the candidates in it.
            requests: the requests that these belong to.
            queue_seconds: how long requests waited, per request that no earlier
                batch has a part of.
            scoring_seconds: how long the engine took.
        """
        cells = self._cells
        queue = self._queue[model]
        waited = sum(queue_seconds)
        with self._lock:
            for seconds in queue_seconds:
                cells[queue + bisect_left(LATENCY_SECONDS, seconds)] += 1.0
            cells[queue + _LATENCY_SUM] += waited
            cells[self._scored[model]] += rows
            cells[self._busy] += scoring_seconds
            self._observe(self._scoring[model], LATENCY_SECONDS, scoring_seconds)
            self._observe(self._batch_rows[model], ROWS, rows)
            self._observe(self._batch_requests[model], catalog.BATCH_SIZES, requests)

    def queue_changed(self, rows: int) -> None:
        """So many candidates now wait to be scored."""
        self._cells[self._queue_rows] = rows

    def model_loaded(self, model: int, seconds: float, info: Mapping[str, str]) -> None:
        """A model is ready.

        Args:
            model: which.
            seconds: how long it took, its first batches not included.
            info: what to say of it: any of `catalog.MODEL_INFO`'s texts.

        Raises:
            ValueError: `info` has a key that is not among them.
        """
        self._aggregates.write_info(self._slot, catalog.MODEL_INFO, model, info)
        self._cells[self._load_durations[model]] = seconds
        self._add(self._loads[model][_OK], 1.0)

    def model_load_failed(self, model: int) -> None:
        """A model could not be loaded."""
        self._add(self._loads[model][_ERROR], 1.0)

    def transport_chosen(self, transport: str, reason: str) -> None:
        """Which transport runs (`core`, `aio`), and why."""
        texts = {"transport": transport, "reason": reason}
        self._aggregates.write_info(self._slot, catalog.TRANSPORT_INFO, 0, texts)

    def simd_found(self, level: str, reason: str) -> None:
        """Which vector instructions the simd engine can use here (`none`), and why."""
        texts = {"level": level, "reason": reason}
        self._aggregates.write_info(self._slot, catalog.SIMD_INFO, 0, texts)

    def gpu_used(self, pci_bus_id: str) -> None:
        """Which GPU an engine uses."""
        texts = {"pci_bus_id": pci_bus_id}
        self._aggregates.write_info(self._slot, catalog.GPU_INFO, 0, texts)

    def build(self, versions: Mapping[str, str]) -> None:
        """The versions that run: any of `catalog.BUILD_INFO`'s texts.

        Raises:
            ValueError: `versions` has a key that is not among them.
        """
        self._aggregates.write_info(self._slot, catalog.BUILD_INFO, 0, versions)

    def _add(self, offset: int, amount: float) -> None:
        with self._lock:
            self._cells[offset] += amount

    def _observe(self, begin: int, bounds: tuple[float, ...], value: float) -> None:
        """Adds to a histogram; the caller holds the lock."""
        self._cells[begin + bisect_left(bounds, value)] += 1.0
        self._cells[begin + len(bounds) + 1] += value

    def _remember(self, begin: int, bucket: int, seconds: float, traceparent: str) -> None:
        """Makes a request its bucket's exemplar, if it can be found again and it is time."""
        offset = begin + bucket * EXEMPLAR_CELLS
        now = time.time()
        if now - self._cells[offset] < _EXEMPLAR_SECONDS:
            return
        trace = parse_traceparent(traceparent)
        if trace is not None and trace.sampled:
            self._aggregates.write_exemplar(self._slot, offset, trace.trace_id, seconds, now)

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        # The collector may run within any allocation, also while this thread
        # holds the lock, and never twice at once: its cells need no lock and
        # must take none.
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self._cells[self._gc_pause] += time.perf_counter() - self._gc_began
            self._cells[self._collections[info["generation"]]] += 1.0


class PublisherRecorder:
    """Records the work of the process that publishes: the supervisor, or the only one.

    The methods may be called from any thread.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._cells = aggregates.cells(aggregates.publisher)
        self._lock = Lock()
        self._restarts = aggregates.offsets(catalog.WORKER_RESTARTS)[0]
        self._points = _groups(aggregates.offsets(catalog.EXPORT_POINTS), len(_EXPORTERS))

    def worker_restarted(self) -> None:
        """A worker died and another one was started in its place."""
        with self._lock:
            self._cells[self._restarts] += 1.0

    def points(self, exporter: str, outcome: str, count: int) -> None:
        """What became of points to export.

        Args:
            exporter: one of `catalog.EXPORTER`.
            outcome: one of `catalog.EXPORT_OUTCOME`.
            count: how many points.
        """
        with self._lock:
            self._cells[self._points[_EXPORTERS[exporter]][_EXPORT_OUTCOMES[outcome]]] += count


def _groups(offsets: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Cuts what is ordered by a first dimension of `count` values and by others within."""
    size = len(offsets) // count
    return [offsets[i : i + size] for i in range(0, len(offsets), size)]
