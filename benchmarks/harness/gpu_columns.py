"""The columns of `benchmarks.gpu`: each times one way of scoring a batch, or what bounds it."""

from __future__ import annotations

import itertools
import math
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import xgboost as xgb

from benchmarks.harness import engines, loads
from benchmarks.harness.data import Trained
from benchmarks.harness.requests import Request, Rows
from ranker.engine.api import Engine
from ranker.engine.gpu import graph_engine, kernel_device
from ranker.engine.gpu.kernel_device import CudaDevice, host_bytes
from ranker.engine.gpu.kernel_tables import GpuForest, lay_out
from ranker.engine.simd import engine as simd
from ranker.forest import Forest

Column = Callable[[list[Rows], float], float]
"""Given blocks of as many rows and about how many seconds it may take: seconds per block."""


def median(score: Callable[[Any], object], blocks: Sequence[Any], seconds: float) -> float:
    """The median seconds of scoring a block, or of whatever is done with it; blocks rotate."""
    score(blocks[-1])
    times: list[float] = []
    end, rotation = time.perf_counter() + seconds, itertools.cycle(blocks)
    while len(times) < 3 or time.perf_counter() < end:
        block, began = next(rotation), time.perf_counter()
        score(block)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def two_threads(engine: Engine, blocks: list[Rows], seconds: float) -> float:
    """Seconds per block while two threads score, as the dispatcher's do: batches overlap."""
    end = time.perf_counter() + seconds

    def work(first: int) -> int:
        rotation, done = itertools.cycle(blocks[first:] + blocks[:first]), 0
        while done < 3 or time.perf_counter() < end:
            engine.score([next(rotation)])
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        done = sum(threads.map(work, (0, len(blocks) // 2)))
    return (time.perf_counter() - began) / done


def our_columns(engine: Engine, forest: Forest, gpu: int | None) -> dict[str, Column]:
    """The engine, and what bounds it, on the GPU of that index if there is one."""
    columns: dict[str, Column] = {"engine": partial(median, engines.of_one_block(engine.score))}
    columns |= {"two threads": partial(two_threads, engine), "gather alone": _gather}
    if gpu is not None and kernel_device.unavailable() is None:
        tables = lay_out(forest)
        device = CudaDevice(tables, gpu)
        columns["kernel alone"] = partial(_kernel, device, tables)
        columns["copies alone"] = partial(_copies, device, tables)
    return columns


def peer_columns(trained: Trained, forest: Forest, gpu: int | None) -> dict[str, Column]:
    """What ours is measured against, as far as it is installed."""
    made: dict[str, Callable[[], engines.Score]] = {}
    if gpu is not None and graph_engine.unavailable() is None:
        made["graph"] = lambda: engines.of_one_block(graph_engine.CudaEngine(forest, gpu).score)
    if simd.unavailable() is None:
        made["simd, one core"] = lambda: engines.of_one_block(simd.SimdEngine(forest).score)
    if gpu is None or xgb.build_info()["USE_CUDA"]:
        made["xgboost"] = lambda: engines.by_xgboost(trained, gpu)
    if find_spec("nvforest") is not None:
        made["nvforest"] = lambda: engines.by_nvforest(trained, gpu)
    return {title: _failing_alone(make) for title, make in made.items()}


def server_columns(address: str) -> dict[str, Column]:
    """Unary requests: the median latency of one at a time, or the seconds per one of several."""

    def served(in_flight: int, blocks: list[Rows], seconds: float) -> float:
        requests = [Request(block, top_k=100) for block in blocks[:64]]
        found = loads.closed_loop(address, requests, in_flight, seconds)
        one = in_flight == 1
        return statistics.median(found.latencies) if one else found.seconds / len(found.latencies)

    return {"one in flight": partial(served, 1), "16 in flight": partial(served, 16)}


def _failing_alone(make: Callable[[], engines.Score]) -> Column:
    """NaN where it can't be made or measured, and the error on stderr: the others are reported."""
    made = cache(make)

    def column(blocks: list[Rows], seconds: float) -> float:
        try:
            return median(made(), blocks, seconds)
        except Exception:  # of whichever library
            traceback.print_exc()
            return math.nan

    return column


def _kernel(device: CudaDevice, tables: GpuForest, blocks: list[Rows], seconds: float) -> float:
    """Rows and scores are in device memory."""
    count, stream = len(blocks[0]), device.device.create_stream()
    scores, columns = device.allocate(count * 4), device.column_memory(count)
    staged = device.pinned.allocate(count * tables.num_features * 4)
    placed = []
    for block in blocks[:8]:  # 128 MB of 65536 rows: more than the second-level cache holds
        host_bytes(staged)[:] = block.reshape(-1).view(np.uint8)
        placed.append(device.allocate(block.nbytes))
        placed[-1].copy_from(staged, stream=stream)
        stream.sync()

    def run(rows: Any) -> None:
        device.launch(stream, int(rows.handle), count, int(scores.handle), columns)
        stream.sync()

    return median(run, placed, seconds)


def _copies(device: CudaDevice, tables: GpuForest, blocks: list[Rows], seconds: float) -> float:
    """From pinned memory to the device, and the scores back."""
    count, stream = len(blocks[0]), device.device.create_stream()
    sizes = count * tables.num_features * 4, count * 4
    here = [device.pinned.allocate(size) for size in sizes]
    there = [device.allocate(size) for size in sizes]

    def run(_: Rows) -> None:
        there[0].copy_from(here[0], stream=stream)
        here[1].copy_from(there[1], stream=stream)
        stream.sync()

    return median(run, blocks, seconds)


def _gather(blocks: list[Rows], seconds: float) -> float:
    """Copying a block within the host's memory, as into a slot."""
    slot = np.empty_like(blocks[0])
    return median(lambda block: np.copyto(slot, block), blocks, seconds)
