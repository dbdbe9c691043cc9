"""The server against the floor of grpc.aio and the bare engine, as ratios in one run.

    make bench-server

One core serves, the other loads. Each round measures all cases once, so that
a machine that slows down slows them all; the table gives the median over the
rounds of each figure and of its ratio to E, the echo floor of the same round.
Requests rotate: hundreds of different ones, so that no branch predictor learns
the answers. Answers are checked against XGBoost's own predictions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks import closed_loop
from benchmarks.pinned import PinnedServer
from ranker import Model, export_onnx
from ranker.order import best_first
from ranker.v1 import ranking_pb2 as pb

FEATURES = 64
ROWS = 40_000
MISSING = 0.05
CACHE = Path("build/bench")
SERVER_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True)
class Case:
    """One row of the table; `limit` is the issue's bound on its ratio to E."""

    candidates: int
    trees: int
    streaming: bool
    limit: float | None = None

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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--transport", default="auto")
    options = parser.parse_args()

    rows, booster = rows_and_booster()
    paths = {}
    for trees in sorted({case.trees for case in CASES}):
        paths[trees] = CACHE / f"{trees}-trees.onnx"
        if not paths[trees].exists():
            export_onnx(booster, paths[trees], iteration_range=(0, trees))
    import os

    os.sched_setaffinity(0, {LOAD_CORE})
    requests = {
        (case.candidates, case.trees): Requests(rows, booster, case.candidates, case.trees)
        for case in CASES
    }
    figures: dict[Case | None, list[Figures]] = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        with PinnedServer(SERVER_CORE, "-m", "benchmarks.echo") as server:
            echo = requests[100, 500].encoded
            measure(server, echo, lambda *_: None, 0.5, options.concurrency, streaming=False)
            figures.setdefault(None, []).append(
                measure(
                    server,
                    echo,
                    lambda *_: None,
                    options.seconds,
                    options.concurrency,
                    streaming=False,
                )
            )
        for case in CASES:
            served = requests[case.candidates, case.trees]
            arguments = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
            chosen = ["--engine", options.engine, "--transport", options.transport]
            with PinnedServer(
                SERVER_CORE, "-m", "ranker", "serve", str(paths[case.trees]), *arguments, *chosen
            ) as server:
                for seconds in (0.5, options.seconds):
                    found = measure(
                        server,
                        served.encoded,
                        served.check,
                        seconds,
                        options.concurrency,
                        streaming=case.streaming,
                    )
                figures.setdefault(case, []).append(found)

    floors = [found.cpu_us for found in figures[None]]
    print(f"\nE, grpc.aio echo of 100 x {FEATURES}: {statistics.median(floors):.0f} us of CPU\n")
    print("| case | CPU us | of E | allowed | bare engine us | candidates/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        found = figures[case]
        ratio = statistics.median(f.cpu_us / e for f, e in zip(found, floors, strict=True))
        bare = engine_us(paths[case.trees], rows, case.candidates, options.concurrency)
        rate = statistics.median(f.rate for f in found)
        print(
            f"| {case} | {statistics.median(f.cpu_us for f in found):.0f} | {ratio:.2f} "
            f"| {case.limit or '-'} | {bare:.0f} | {rate * case.candidates:,.0f} "
            f"| {statistics.median(f.p50_ms for f in found):.2f} "
            f"| {statistics.median(f.p99_ms for f in found):.2f} |"
        )


if __name__ == "__main__":
    main()
