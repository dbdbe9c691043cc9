"""What metrics cost the serving loop: the recorder's time per request.

    python -m benchmarks.metrics

A request is what the serving loop records of one unary Rank: its RPC, its
arrival, its share of a batch, its answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

from exporters.aggregates import Aggregates, Layout
from exporters.recorder import Recorder

METHOD = "/ranker.v1.RankingService/Rank"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUESTS = 20_000
REPEATS = 15


def requests(recorder: Recorder, batch: int, traceparent: str | None) -> None:
    """Records `REQUESTS` unary requests of 100 candidates, scored `batch` at a time."""
    waits = [i * 1e-5 for i in range(batch)]
    for _ in range(REQUESTS // batch):
        for wait in waits:
            recorder.rpc_started()
            recorder.request_arrived(0, 0.05 - wait)
            recorder.queue_changed(100)
        recorder.queue_changed(0)
        recorder.batch_scored(0, 100 * batch, waits, 2e-3)
        for wait in waits:
            recorder.request_finished(0, 0, 100, 2e-3 + wait, traceparent)
            recorder.rpc_finished(METHOD, 0, 2e-3 + wait)


def best(work: Callable[[], None], units: int) -> tuple[float, float]:
    """Microseconds per unit: the best and the median of `REPEATS` runs."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) / units * 1e6)
    return min(times), statistics.median(times)


def main() -> None:
    layout = Layout((("books", "1"), ("films", "7")), (METHOD,), workers=1)
    recorder = Recorder(Aggregates.private(layout))
    for batch in (1, 8, 32):
        for name, traceparent in (("untraced", None), ("traced", TRACEPARENT)):
            low, middle = best(partial(requests, recorder, batch, traceparent), REQUESTS)
            print(f"batches of {batch:2}, {name:8}: {low:.2f} µs/request (median {middle:.2f})")


if __name__ == "__main__":
    main()
