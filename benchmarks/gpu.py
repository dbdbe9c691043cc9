"""How fast a GPU scores, beside what it can't be faster than: `python -m benchmarks.gpu`.

For every model and batch size, from the same rotating rows:

- engine: `TensorEngine.score`, which is `CudaEngine`'s: rows and scores in host memory.
- run: the graph alone, rows and scores in device memory.
- copies: the same bytes to the device and back, and nothing else. The engine
  can't be faster than this unless it overlaps batches.
- traffic: the bytes that the graph's operators read and write, at the speed at
  which the device streams memory. The run can't be faster than this unless
  tensors stay in the caches.
- simd: one CPU thread.
- XGBoost's own GPU prediction, and RAPIDS nvforest, where they are installed,
  with rows in host and in device memory, scores to the host.

Scores are first compared with XGBoost's on the CPU, on random rows and on rows
made of thresholds and their neighbours. With `--provider cpu` everything runs
without a GPU, to try the script out: those figures say nothing about a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
import xgboost as xgb
from onnx import TensorProto, helper

from benchmarks import closed_loop, engine
from benchmarks.pinned import PinnedServer
from ranker.engine import cuda, simd
from ranker.engine.api import Engine, Rows
from ranker.engine.cuda import FixedBatch, Provider, TensorEngine
from ranker.engine.runtime import onnxruntime
from ranker.engine.simd import SimdEngine
from ranker.engine.tensor_graph import INPUT, OUTPUT, TensorGraph, compile_forest
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.onnx_reader import read_forest
from ranker.v1 import ranking_pb2

SPECS = tuple(
    engine.Spec(f"{trees}x{depth}", trees, parameters={"max_depth": depth})
    for trees, depth in ((100, 6), (500, 6), (1000, 8), (3000, 8))
)
SIZES = (10, 100, 1000, 2000, 10_000, 65_536)
POOL_ROWS = 131_072
MAX_SERVED_ROWS = 10_000
"""The server's own default bound on one request."""

Predict = Callable[[Any], Any]


def main_table(
    provider: Provider, specs: list[engine.Spec], sizes: list[int], seconds: float, models: Path,
    serve: bool,
) -> Iterator[str]:  # fmt: skip
    """The report, line by line, in Markdown."""
    bandwidth = stream_bandwidth(provider)
    yield f"# {card(provider)}"
    yield ""
    yield (
        f"onnxruntime {onnxruntime.__version__}, {provider.name}, {provider.options}; "
        f"xgboost {xgb.__version__}. The device streams {bandwidth / 1e9:.0f} GB/s. "
        "Medians, in microseconds a batch; in brackets, million candidates a second."
    )
    for spec in specs:
        pool = engine.make_rows(np.random.default_rng(1), POOL_ROWS, spec.features, 0.05)
        booster = engine.train(spec, models)
        onnx_file = models / f"{spec.name}.onnx"
        if not onnx_file.exists():
            export_onnx(booster, onnx_file)
        forest = read_forest(onnx_file)
        graph = compile_forest(forest)
        began = time.perf_counter()
        scorer = TensorEngine(forest, provider)
        loaded = time.perf_counter() - began
        device = DeviceRuns(graph, provider)
        others = rivals(models / f"{spec.name}.ubj", provider)
        on_cpu = None if simd.unavailable() else SimdEngine(forest)

        yield f"\n## {spec.name}\n"
        yield f"Loaded in {loaded:.1f} s. {parity(scorer, booster, forest, pool)}\n"
        titles = ["n", "engine", "run", "copies", "traffic", "simd"]
        titles += [f"{name}, {where}" for name in others for where in ("host", "device")]
        titles += ["server, p50"] if serve else []
        yield f"| {' | '.join(titles)} |"
        yield "|---" * len(titles) + "|"
        with served(onnx_file, provider) if serve else nullcontext("") as address:
            for n in sizes:
                blocks = [pool[i : i + n] for i in range(0, len(pool) - n + 1, n)]
                run, copies = device.measure(blocks, seconds)
                cells = [str(n), cell(time_engine(scorer, blocks, seconds), n)]
                cells += [cell(run, n), cell(copies, n), cell(graph.traffic * n / bandwidth, n)]
                cells += [cell(time_engine(on_cpu, blocks, seconds), n) if on_cpu else ""]
                for predict in others.values():
                    times = time_rival(predict, blocks, provider, seconds)
                    cells += [cell(took, n) for took in times]
                if serve:
                    fits = n <= MAX_SERVED_ROWS
                    cells += [cell(time_server(address, blocks, seconds), n) if fits else ""]
                yield f"| {' | '.join(cells)} |"


def cell(seconds: float, n: int) -> str:
    """A time as a table shows it."""
    return f"{seconds * 1e6:.0f} ({n / seconds / 1e6:.2f})"


def time_blocks(score: Callable[[Rows], object], blocks: list[Rows], seconds: float) -> float:
    """The median seconds of scoring a block; blocks rotate for about `seconds`."""
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


def time_engine(scorer: Engine, blocks: list[Rows], seconds: float) -> float:
    """The median seconds of scoring a block with an engine."""
    return time_blocks(lambda block: scorer.score([block]), blocks, seconds)


class DeviceRuns:
    """Runs a graph with batches of exactly the rows asked for, cut as the engine cuts them."""

    def __init__(self, graph: TensorGraph, provider: Provider) -> None:
        self._graph = graph
        self._provider = provider
        self._session = cuda.open_session(graph, provider)
        self._numbers = itertools.count(1)

    def measure(self, blocks: list[Rows], seconds: float) -> tuple[float, float]:
        """Median seconds of running a block, and of copying it in and its scores out."""
        rows = min(len(blocks[0]), cuda.max_run_rows(self._graph))
        number = next(self._numbers)
        batch = FixedBatch(self._session, self._graph, self._provider, number, rows)
        runs = len(blocks[0]) / rows
        pieces = [block[:rows] for block in blocks]

        def copies(piece: Rows) -> None:
            batch.copy_in(piece)
            batch.copy_out()

        copying = time_blocks(copies, pieces, seconds / 2)
        running: list[float] = []
        end = time.perf_counter() + seconds
        for piece in itertools.cycle(pieces):
            batch.copy_in(piece)
            began = time.perf_counter()
            batch.run()
            running.append(time.perf_counter() - began)
            if len(running) > 3 and time.perf_counter() > end:
                break
        return statistics.median(running[1:]) * runs, copying * runs


def stream_bandwidth(provider: Provider) -> float:
    """Bytes a second that the provider reads and writes in an operator that does nothing else."""
    rows, columns = (4096, 16_384) if provider.name == cuda.CUDA else (512, 16_384)
    shape = [rows, columns]
    graph = helper.make_graph(
        [helper.make_node("Neg", [INPUT], [OUTPUT])],
        "stream",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    stream = TensorGraph(model.SerializeToString(), columns, columns, 8 * columns)
    session = cuda.open_session(stream, provider)
    tensors = [
        onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, np.float32, provider.device, provider.index
        )
        for _ in range(2)
    ]
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT, tensors[0])
    binding.bind_ortvalue_output(OUTPUT, tensors[1])
    times = []
    for _ in range(20):
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - began)
    return stream.traffic * rows / statistics.median(times[3:])


def edge_rows(forest: Forest, rows: int) -> Rows:
    """Rows of thresholds, their neighbours on both sides, infinities and NaN."""
    rng = np.random.default_rng(2)
    thresholds = forest.threshold[forest.feature >= 0]
    infinity = np.float32(np.inf)
    values = np.concatenate(
        [thresholds, np.nextafter(thresholds, infinity), np.nextafter(thresholds, -infinity)]
    )
    rare = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45], np.float32)
    shape = rows, forest.num_features
    return np.where(rng.random(shape) < 0.1, rng.choice(rare, shape), rng.choice(values, shape))


def parity(scorer: Engine, booster: xgb.Booster, forest: Forest, pool: Rows) -> str:
    """Compares scores with XGBoost's on the CPU, bit for bit."""
    rows = np.concatenate([pool[:4000], edge_rows(forest, 4000)])
    want = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
    got = scorer.score([rows])
    different = int((got.view(np.uint32) != want.view(np.uint32)).sum())
    if not different:
        return f"All {len(rows)} scores equal XGBoost's, bit for bit."
    largest = float(np.abs(got - want).max())
    return f"**{different} of {len(rows)} scores differ from XGBoost's, by at most {largest:.3g}.**"


def rivals(model_file: Path, provider: Provider) -> dict[str, Predict]:
    """Other predictors of the same model on the same device, if they are installed."""
    on_gpu = provider.device == "cuda"
    found: dict[str, Predict] = {}
    if on_gpu and importlib.util.find_spec("cupy") is None:
        return found  # nothing to hold rows in device memory with
    if not on_gpu or xgb.build_info()["USE_CUDA"]:
        booster = xgb.Booster(model_file=model_file)
        device = f"cuda:{provider.index}" if on_gpu else "cpu"
        booster.set_param({"device": device, "nthread": 1})
        found["xgboost"] = lambda rows: booster.inplace_predict(
            rows, predict_type="margin", validate_features=False
        )
    if importlib.util.find_spec("nvforest") is not None:
        found["nvforest"] = (
            importlib.import_module("nvforest")
            .load_model(
                model_file,
                device="gpu" if on_gpu else "cpu",
                device_id=provider.index if on_gpu else None,
                precision="single",
            )
            .predict
        )
    return found


def time_rival(
    predict: Predict, blocks: list[Rows], provider: Provider, seconds: float
) -> tuple[float, float]:
    """Median seconds of a block with rows in host memory, and in device memory."""
    to_device: Callable[[Rows], Any] = np.asarray
    to_host: Callable[[Any], object] = np.asarray
    if provider.device == "cuda":
        cupy = importlib.import_module("cupy")
        to_device, to_host = cupy.asarray, cupy.asnumpy
    host = time_blocks(lambda rows: to_host(predict(to_device(rows))), blocks, seconds)
    placed = [to_device(block) for block in blocks]
    return host, time_blocks(lambda rows: to_host(predict(rows)), placed, seconds)


@contextmanager
def served(onnx_file: Path, provider: Provider) -> Iterator[str]:
    """A server of a model, on one core; its address."""
    name = "cuda" if provider.name == cuda.CUDA else "auto"
    arguments = ["-m", "ranker", "serve", str(onnx_file), "--engine", name, "--host", "127.0.0.1"]
    arguments += ["--port", "0", "--metrics-port", "-1"]
    with PinnedServer(0, *arguments, "--max-batch-rows", str(cuda.MAX_RUN_ROWS)) as server:
        yield server.address


def time_server(address: str, blocks: list[Rows], seconds: float) -> float:
    """The median seconds of one unary request with nothing else in flight."""
    requests = []
    for block in blocks[:64]:
        rows, columns = block.shape
        matrix = ranking_pb2.Matrix(rows=rows, columns=columns, data=block.tobytes())
        requests.append(ranking_pb2.RankRequest(candidates=matrix).SerializeToString())
    load = closed_loop.run(address, requests, concurrency=1, seconds=seconds, check=lambda *_: None)
    return load.percentile(50)


def card(provider: Provider) -> str:
    """The name of what is measured."""
    if provider.name != cuda.CUDA:
        return f"{engine.processor()}: no GPU, a trial of this script"
    query = "--query-gpu=name,memory.total,clocks.max.sm,driver_version"
    command = ["nvidia-smi", query, "--format=csv,noheader", f"--id={provider.index}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@click.command()
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--index", default=0, show_default=True, help="Which GPU.")
@click.option("--graphs/--no-graphs", default=True, show_default=True, help="CUDA graphs.")
@click.option("--models", type=Path, default=Path("build/bench-engine"), show_default=True)
@click.option("--only", multiple=True, help="Names of models; default: all.")
@click.option("--size", "sizes", multiple=True, type=int, help="Batch sizes; default: all.")
@click.option("--seconds", default=0.5, show_default=True, help="Time for each figure.")
@click.option("--serve/--no-serve", default=False, show_default=True, help="Also over gRPC.")
@click.option("--out", type=Path, help="Also write the report to this file.")
def main(
    provider: str, index: int, graphs: bool, models: Path, only: tuple[str, ...],
    sizes: tuple[int, ...], seconds: float, serve: bool, out: Path | None,
) -> None:  # fmt: skip
    """Prints the report."""
    if provider == "cuda" and cuda.unavailable():
        sys.exit(cuda.unavailable())
    chosen = cuda.cuda_provider(index, graphs) if provider == "cuda" else cuda.CPU_PROVIDER
    specs = [spec for spec in SPECS if not only or spec.name in only]
    os.environ.pop(simd.PATH_VARIABLE, None)
    lines = []
    for line in main_table(chosen, specs, list(sizes or SIZES), seconds, models, serve):
        print(line, flush=True)
        lines.append(line)
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any("**" in line for line in lines):
        sys.exit("scores differ from XGBoost's")


if __name__ == "__main__":
    main()
