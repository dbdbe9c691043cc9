"""The server against the floor of grpc.aio and the bare engine, as ratios in one run.

    make bench-server

One core serves, the other loads. Each round measures all cases once, so that
a machine that slows down slows them all; the table gives the median over the
rounds of each figure and of its ratio to E, the echo floor of the same round.
Requests rotate: hundreds of different ones, so that no branch predictor learns
the answers. Answers are checked against XGBoost's own predictions.

The generator of the first table is grpc.aio itself and costs about as much as the server it
loads, which then scores smaller batches than it would: the later table of servers that
h2load keeps busy has the figures of full ones.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks import closed_loop, h2load, half_load
from benchmarks.closed_loop import RANK, RANK_STREAM
from benchmarks.half_load import HalfLoad
from benchmarks.pauses import look
from benchmarks.pinned import PinnedServer
from benchmarks.ranker_server import RankerServer
from ranker import Model, export_onnx
from ranker.model.order import best_first
from ranker.v1 import ranking_pb2 as pb

FEATURES = 64
ROWS = 40_000
MISSING = 0.05
CACHE = Path("build/bench")
SERVER_CORE, LOAD_CORE = 0, 1
PAUSES_SECONDS = 5.0
MAX_FAILED = 0.001
"""Of the calls at half load: they count as quick ones, and p99 leaves out ten times as many."""
ECHO = f"grpc.aio echo of 100 x {FEATURES}"


@dataclass(frozen=True)
class Case:
    """One row of the table; `limit` is the issue's bound on its ratio to E."""

    candidates: int
    trees: int
    streaming: bool
    limit: float

    def __str__(self) -> str:
        kind = "RankStream" if self.streaming else "Rank"
        return f"{kind} {self.candidates} x {FEATURES} x {self.trees} trees"


CASES = (
    Case(10, 500, streaming=False, limit=0.50),
    Case(100, 100, streaming=False, limit=0.60),
    Case(100, 500, streaming=False, limit=1.20),
    Case(10, 500, streaming=True, limit=0.33),
    Case(100, 500, streaming=True, limit=1.00),
)


def rows_and_booster() -> tuple[NDArray[np.float32], xgb.Booster]:
    """Rows with missing values and a rank:ndcg booster of 500 trees of depth 6, kept on disk."""
    random = np.random.default_rng(11)
    rows = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows[random.random(rows.shape) < MISSING] = np.nan
    path = CACHE / "booster.ubj"
    booster = xgb.Booster()
    if path.exists():
        booster.load_model(path)
        return rows, booster
    print("training 500 trees of depth 6 ...", flush=True)
    weights = random.normal(size=FEATURES)
    filled = np.nan_to_num(rows)
    relevance = filled @ weights + filled[:, 0] * filled[:, 1] + random.normal(size=ROWS)
    grades = np.digitize(relevance, np.quantile(relevance, [0.5, 0.75, 0.9, 0.97]))
    matrix = xgb.DMatrix(rows, grades)
    matrix.set_group([100] * (ROWS // 100))
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 6, "seed": 3}, matrix, 500)
    CACHE.mkdir(parents=True, exist_ok=True)
    booster.save_model(path)
    return rows, booster


class Requests:
    """Encoded requests of one size, and the rankings that they must get."""

    def __init__(
        self, rows: NDArray[np.float32], booster: xgb.Booster, candidates: int, trees: int
    ) -> None:
        count = min(512, len(rows) // candidates)
        margins = booster.predict(xgb.DMatrix(rows), output_margin=True, iteration_range=(0, trees))
        self.encoded, self.rankings = [], []
        for position in range(count):
            block = slice(position * candidates, (position + 1) * candidates)
            matrix = pb.Matrix(
                rows=candidates, columns=FEATURES, data=rows[block].astype("<f4").tobytes()
            )
            request = pb.RankRequest(request_id=str(position), candidates=matrix)
            self.encoded.append(request.SerializeToString())
            self.rankings.append(best_first(margins[block]).tolist())

    def check(self, position: int, answer: bytes) -> None:
        """Raises unless the answer is XGBoost's own ranking."""
        response = pb.RankResponse.FromString(answer)
        if list(response.indices) != self.rankings[position]:
            raise AssertionError(f"request {position} was not ranked as XGBoost ranks it")


@dataclass(frozen=True)
class Figures:
    """What one measurement gave: server CPU, rate and latency."""

    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float


def measure(
    server: PinnedServer,
    requests: list[bytes],
    check: closed_loop.Check,
    seconds: float,
    concurrency: int,
    *,
    streaming: bool,
) -> Figures:
    """Loads a server for so long."""
    before = server.cpu_seconds()
    load = closed_loop.run(
        server.address,
        requests,
        concurrency=concurrency,
        seconds=seconds,
        check=check,
        streaming=streaming,
    )
    cpu = server.cpu_seconds() - before
    return Figures(
        cpu / load.requests * 1e6,
        load.requests / load.seconds,
        load.percentile(50) * 1e3,
        load.percentile(99) * 1e3,
    )


def engine_us(path: Path, rows: NDArray[np.float32], candidates: int, merged: int) -> float:
    """Microseconds per list of the bare engine, `merged` lists a batch, rotating."""
    model = Model.load(path)
    block = candidates * merged
    batches = [rows[i : i + block] for i in range(0, len(rows) - block + 1, block)]
    for batch in batches[:3]:
        model.engine.score([batch])
    began = time.process_time()
    for batch in batches:
        model.engine.score([batch])
    return (time.process_time() - began) / len(batches) / merged * 1e6


def echo_server() -> PinnedServer:
    """The floor on the server's core."""
    return PinnedServer(SERVER_CORE, "-m", "benchmarks.echo")


class Bench:
    """The servers and requests of one run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows, booster = rows_and_booster()
        self.paths: dict[int, Path] = {}
        for trees in sorted({case.trees for case in CASES}):
            self.paths[trees] = CACHE / f"{trees}-trees.onnx"
            if not self.paths[trees].exists():
                export_onnx(booster, self.paths[trees], iteration_range=(0, trees))
        sizes = {(case.candidates, case.trees) for case in CASES}
        self.requests = {size: Requests(self.rows, booster, *size) for size in sizes}

    def echo(self, concurrency: int) -> Figures:
        """The floor."""
        requests = self.requests[100, 500].encoded
        with echo_server() as server:
            return self._measured(server, requests, lambda *_: None, concurrency, streaming=False)

    def serve(self, case: Case, concurrency: int) -> Figures:
        """The server on one case."""
        with self.server(case) as server:
            requests = self.requests[case.candidates, case.trees]
            return self._measured(
                server, requests.encoded, requests.check, concurrency, streaming=case.streaming
            )

    def flat_out(self, case: Case | None) -> tuple[float, float]:
        """CPU microseconds per request and requests per second of a server kept busy by h2load.

        Unary: as many calls in flight as in the other tables. A stream's messages are
        limited by the server alone. Without a case, the echo.
        """
        size = (case.candidates, case.trees) if case else (100, 500)
        lists = self.requests[size].encoded
        streaming = case is not None and case.streaming
        bodies = [lists[k::4] for k in range(4)] if streaming else [[each] for each in lists[:8]]
        method, each = (RANK_STREAM, 1) if streaming else (RANK, 2)

        def load(seconds: float) -> h2load.Load:
            address, cores = server.address, {LOAD_CORE}
            return h2load.run(
                address, method, bodies, clients=each, streams=each, seconds=seconds, cores=cores
            )

        with self.server(case) if case else echo_server() as server:
            load(0.5)
            ranker = server if isinstance(server, RankerServer) else None
            before = ranker.codes()["OK"] if ranker else 0
            cpu = server.cpu_seconds()
            done = load(self.options.seconds)
            cpu = server.cpu_seconds() - cpu
            answered = ranker.codes()["OK"] - before if ranker else done.calls
        return cpu / answered * 1e6, answered / done.seconds

    def half_load(self, case: Case | None, *options: str) -> HalfLoad:
        """Latency at half of what the server, or without a case the echo, can do.

        Args:
            case: what is asked.
            options: of `ranker serve`.
        """
        size = (case.candidates, case.trees) if case else (100, 500)
        lists = self.requests[size].encoded
        with self.server(case, *options) if case else echo_server() as server:
            found = half_load.measure(server, lists, self.options.seconds, {LOAD_CORE})
            codes = server.codes() if isinstance(server, RankerServer) else Counter[str]()
        # h2load cancels what is in flight at its end; a long pause of the machine fills the queue.
        failed = codes.total() - codes["OK"] - codes["CANCELLED"]
        if failed > MAX_FAILED * codes.total():
            raise RuntimeError(f"calls failed: {codes}")
        return found

    def server(self, case: Case, *options: str) -> RankerServer:
        """`ranker serve` on its core."""
        chosen = ["--engine", self.options.engine, "--transport", self.options.transport]
        return RankerServer(SERVER_CORE, self.paths[case.trees], *chosen, *options)

    def _measured(
        self,
        server: PinnedServer,
        requests: list[bytes],
        check: closed_loop.Check,
        concurrency: int,
        *,
        streaming: bool,
    ) -> Figures:
        measure(server, requests, check, 0.5, concurrency, streaming=streaming)
        seconds = self.options.seconds
        return measure(server, requests, check, seconds, concurrency, streaming=streaming)


def print_costs(bench: Bench) -> None:
    """Server CPU per request, beside the floor."""
    options = bench.options
    floors: list[float] = []
    figures: dict[Case, list[Figures]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        floors.append(bench.echo(options.concurrency).cpu_us)
        for case in CASES:
            figures[case].append(bench.serve(case, options.concurrency))
    print(f"\nE, {ECHO}: {median(floors):.0f} us of CPU\n")
    print("| case | CPU us | of E | allowed | bare engine us | candidates/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|---|")
    for case, found in figures.items():
        ratio = median(each.cpu_us / floor for each, floor in zip(found, floors, strict=True))
        bare = engine_us(bench.paths[case.trees], bench.rows, case.candidates, options.concurrency)
        print(
            f"| {case} | {median(each.cpu_us for each in found):.0f} | {ratio:.2f} | {case.limit} "
            f"| {bare:.0f} | {median(each.rate for each in found) * case.candidates:,.0f} "
            f"| {median(each.p50_ms for each in found):.2f} "
            f"| {median(each.p99_ms for each in found):.2f} |",
            flush=True,
        )


def print_latencies(bench: Bench) -> None:
    """Latency of single requests."""
    print("\none in flight:\n\n| case | p50 ms | echo's p50 + engine ms |\n|---|---|---|")
    for case in CASES:
        if not case.streaming:
            rounds = range(bench.options.rounds)
            pairs = [(bench.echo(1).p50_ms, bench.serve(case, 1).p50_ms) for _ in rounds]
            engine = engine_us(bench.paths[case.trees], bench.rows, case.candidates, 1) / 1e3
            floor = median(pair[0] for pair in pairs) + engine
            print(f"| {case} | {median(pair[1] for pair in pairs):.2f} | {floor:.2f} |", flush=True)


def print_busy(bench: Bench) -> None:
    """CPU per request of a server that h2load, a program in C, keeps busy."""
    print("\nkept busy by h2load:\n")
    print("| case | CPU us | of the echo's | requests/s |\n|---|---|---|---|")
    floors: list[float] = []
    for case in (None, *CASES):
        found = [bench.flat_out(case) for _ in range(bench.options.rounds)]
        costs = [cost for cost, _ in found]
        floors = floors or costs
        ratio = median(cost / floor for cost, floor in zip(costs, floors, strict=True))
        print(
            f"| {case or ECHO} | {median(costs):.0f} | {ratio:.2f} "
            f"| {median(rate for _, rate in found):,.0f} |",
            flush=True,
        )


def print_half_load(bench: Bench) -> None:
    """Latency of servers at half of their rate; once with batches that wait for company."""
    print(f"\nat half load:\n\nbefore: {look(SERVER_CORE, LOAD_CORE, PAUSES_SECONDS)}\n")
    print(
        "| case | requests/s | server, cores | p50 ms | p99 ms | p99 / p50 | in 1/4 s "
        "| queueing alone |\n" + "|---" * 8 + "|"
    )
    unary = [case for case in CASES if not case.streaming]
    loads: list[tuple[Case | None, tuple[str, ...]]] = [(None, ()), *((case, ()) for case in unary)]
    loads.append((unary[-1], ("--max-batch-delay", "0.001")))
    for case, options in loads:
        found = [bench.half_load(case, *options) for _ in range(bench.options.rounds)]
        print(
            f"| {' '.join((str(case or ECHO), *options))} "
            f"| {median(one.rate for one in found):.0f} "
            f"| {median(one.busy for one in found):.2f} "
            f"| {median(one.p50 for one in found) * 1e3:.2f} "
            f"| {median(one.p99 for one in found) * 1e3:.2f} "
            f"| {median(one.p99 / one.p50 for one in found):.1f} "
            f"| {median(one.window for one in found):.1f} "
            f"| {median(one.queueing for one in found):.1f} |",
            flush=True,
        )
    print(f"\nafter: {look(SERVER_CORE, LOAD_CORE, PAUSES_SECONDS)}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="per case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--no-latency", action="store_true", help="the first table only")
    options = parser.parse_args()
    bench = Bench(options)
    os.sched_setaffinity(0, {LOAD_CORE})
    print_costs(bench)
    if options.no_latency:
        return
    print_latencies(bench)
    if not h2load.installed():
        print("\nno h2load (Debian: nghttp2-client): neither a busy server nor half a load")
        return
    print_busy(bench)
    print_half_load(bench)


if __name__ == "__main__":
    main()
