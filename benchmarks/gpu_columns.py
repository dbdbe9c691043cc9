"""The columns of `benchmarks.gpu`: each times one way of scoring a batch, or what bounds it."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from benchmarks import closed_loop
from ranker.engine.api import Engine, Rows, Scores
from ranker.engine.gpu import graph_engine as cuda
from ranker.engine.gpu import kernel_device as cuda_device
from ranker.engine.gpu.engine import load_gpu
from ranker.engine.gpu.kernel_device import CudaDevice, host_bytes
from ranker.engine.gpu.kernel_tables import ROWS, GpuForest, lay_out
from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import SimdEngine
from ranker.forest import Forest
from ranker.v1 import ranking_pb2

Column = Callable[[list[Rows], float], float]
"""Given blocks of as many rows and about how many seconds it may take: seconds per block; NaN if
it failed."""

INSTRUCTIONS_PER_SPLIT = 10.5
INSTRUCTIONS_PER_TREE = 8
INSTRUCTIONS_PER_COLUMN = 40
"""Per row, counted in the kernel's machine code for sm_90."""

LANES = 128
"""Instructions that a multiprocessor begins per cycle: four schedulers, 32 lanes each."""


@dataclass(frozen=True)
class Scorer:
    """An engine under test.

    Attributes:
        engine: it.
        on_gpu: whether it runs on a GPU.
        loaded: seconds that loading it took.
    """

    engine: Engine
    on_gpu: bool
    loaded: float


def median(score: Callable[[Any], object], blocks: Sequence[Any], seconds: float) -> float:
    """The median seconds of scoring a block, or of whatever is done with it; blocks rotate."""
    score(blocks[-1])
    times: list[float] = []
    end = time.perf_counter() + seconds
    for block in itertools.cycle(blocks):
        began = time.perf_counter()
        score(block)
        times.append(time.perf_counter() - began)
        if len(times) >= 3 and time.perf_counter() > end:
            return statistics.median(times)
    raise AssertionError("no blocks")


def two_threads(engine: Engine, blocks: list[Rows], seconds: float) -> float:
    """Seconds per block while two threads score, as the dispatcher's do: batches overlap."""
    end = time.perf_counter() + seconds

    def work(first: int) -> int:
        for done, block in enumerate(itertools.cycle(blocks[first:] + blocks[:first]), 1):
            engine.score([block])
            if time.perf_counter() > end and done >= 3:
                return done
        raise AssertionError("no blocks")

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        done = sum(threads.map(work, (0, len(blocks) // 2)))
    return (time.perf_counter() - began) / done


def load(forest: Forest, index: int | None) -> Scorer:
    """The engine `cuda` on a GPU; without one, to try the script out, its tensor graph."""
    began = time.perf_counter()
    engine: Engine
    if index is None:
        engine = cuda.TensorEngine(forest, cuda.CPU_PROVIDER, 4096)
    else:
        engine, _ = load_gpu(forest, index)
    return Scorer(engine, index is not None, time.perf_counter() - began)


def kernel_columns(forest: Forest, index: int) -> dict[str, Column]:
    """The kernel in device memory, the copies alone, and the arithmetic alone."""
    if cuda_device.unavailable() is not None:
        return {}
    tables = lay_out(forest)
    device = CudaDevice(tables, index)
    return {
        "kernel alone": partial(_kernel, device, tables),
        "copies alone": partial(_copies, device, tables),
        "arithmetic alone": partial(_arithmetic, device, tables),
    }


def _kernel(device: CudaDevice, tables: GpuForest, blocks: list[Rows], seconds: float) -> float:
    """Rows and scores are in device memory."""
    count = len(blocks[0])
    stream = device.device.create_stream()
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
    count = len(blocks[0])
    stream = device.device.create_stream()
    sizes = count * tables.num_features * 4, count * 4
    here = [device.pinned.allocate(size) for size in sizes]
    there = [device.allocate(size) for size in sizes]

    def run(_: Rows) -> None:
        there[0].copy_from(here[0], stream=stream)
        here[1].copy_from(there[1], stream=stream)
        stream.sync()

    return median(run, blocks, seconds)


def _arithmetic(device: CudaDevice, tables: GpuForest, blocks: list[Rows], _: float) -> float:
    """What the kernel's instructions take if every scheduler begins one each cycle."""
    per_row = (
        INSTRUCTIONS_PER_SPLIT * int(tables.trees["steps"].sum())
        + INSTRUCTIONS_PER_TREE * tables.num_trees
        + INSTRUCTIONS_PER_COLUMN * len(tables.columns)
    )
    properties = device.device.properties
    hertz = properties.clock_rate * 1e3
    rows = -(-len(blocks[0]) // ROWS) * ROWS
    return float(per_row * rows / (properties.multiprocessor_count * LANES * hertz))


def gather(blocks: list[Rows], seconds: float) -> float:
    """Copying a block within the host's memory, as into a slot."""
    slot = np.empty_like(blocks[0])
    return median(lambda block: np.copyto(slot, block), blocks, seconds)


def other_columns(forest: Forest, model_file: Path, index: int | None) -> dict[str, Column]:
    """What ours is measured against, as far as it is installed."""
    makers: dict[str, Callable[[], Column]] = {}
    if index is not None and cuda.unavailable() is None:
        makers["graph"] = lambda: _ours(cuda.CudaEngine(forest, index))
    if simd.unavailable() is None:
        makers["simd, one core"] = lambda: _ours(SimdEngine(forest))
    if index is None or xgb.build_info()["USE_CUDA"]:
        makers["xgboost"] = lambda: partial(median, _xgboost(model_file, index))
    if importlib.util.find_spec("nvforest") is not None:
        makers["nvforest"] = lambda: _nvforest(model_file, index)
    return {title: failing_alone(make) for title, make in makers.items()}


def failing_alone(make: Callable[[], Column]) -> Column:
    """A column that is NaN where it can't be made or measured, so that the others are reported.

    The error goes to stderr.
    """
    made: list[Column] = []

    def column(blocks: list[Rows], seconds: float) -> float:
        try:
            if not made:
                made.append(make())
            return made[0](blocks, seconds)
        except Exception:  # of whichever library
            traceback.print_exc()
            return math.nan

    return column


def _ours(engine: Engine) -> Column:
    return partial(median, lambda rows: engine.score([rows]))


def _xgboost(model_file: Path, index: int | None) -> Callable[[Rows], object]:
    booster = xgb.Booster(model_file=model_file)
    booster.set_param({"device": "cpu" if index is None else f"cuda:{index}", "nthread": 1})
    to_device: Callable[[Rows], Any] = np.asarray
    if index is not None and importlib.util.find_spec("cupy") is not None:
        to_device = importlib.import_module("cupy").asarray
    return lambda rows: _on_host(
        booster.inplace_predict(to_device(rows), predict_type="margin", validate_features=False)
    )


def _nvforest(model_file: Path, index: int | None) -> Column:
    """As fast as it can be: it finds the layout and the chunk size for every batch size itself."""
    model = importlib.import_module("nvforest").load_model(
        model_file,
        device="cpu" if index is None else "gpu",
        device_id=index,
        precision="single",
    )

    def column(blocks: list[Rows], seconds: float) -> float:
        tuned = model.optimize(data=np.stack(blocks[:8]))
        return median(lambda rows: _on_host(tuned.predict(rows)), blocks, seconds)

    return column


def _on_host(scores: Any) -> Scores:
    """Scores in the host's memory: CuPy's arrays, which may not be done yet, are fetched."""
    return scores.get() if hasattr(scores, "get") else scores  # type: ignore[no-any-return]


def served(address: str, in_flight: int, blocks: list[Rows], seconds: float) -> float:
    """Unary requests: the median latency of one at a time, or the seconds per one of several."""
    requests = []
    for block in blocks[:64]:
        rows, columns = block.shape
        matrix = ranking_pb2.Matrix(rows=rows, columns=columns, data=block.tobytes())
        requests.append(ranking_pb2.RankRequest(candidates=matrix, top_k=100).SerializeToString())
    load = closed_loop.run(
        address, requests, concurrency=in_flight, seconds=seconds, check=lambda *_: None
    )
    return load.percentile(50) if in_flight == 1 else load.seconds / load.requests
