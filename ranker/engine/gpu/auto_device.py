"""Where to score: on the CPU, on a GPU, or wherever a batch of that size is done sooner."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ranker.engine.api import Engine, Rows, Scores
from ranker.engine.gpu.engine import load_gpu
from ranker.errors import ModelError
from ranker.forest import Forest

CROSSOVER_ROWS = tuple(1 << octave for octave in range(5, 15))
"""The batch sizes that are timed: a GPU that is slower at 16384 rows is of no use."""

REPEATS = 5


def prefer_gpu(cpu: Engine, forest: Forest) -> tuple[Engine, str]:
    """What `--device auto` scores with, and in one sentence why.

    The first GPU takes the batches that it was just measured to score sooner
    than `cpu` does. Without a usable one it is `cpu` alone, which is no error.

    Args:
        cpu: the engine that was chosen for the CPU; of the same model.
        forest: the model.
    """
    if forest.logistic:
        return cpu, "on the CPU: a score must not depend on which device's exp() made it"
    try:
        gpu, which = load_gpu(forest)
    except ModelError as error:
        return cpu, f"on the CPU: {error.message}"
    try:
        rows = crossover(cpu, gpu)
    except Exception as error:  # whatever a GPU makes of a batch that it can't score
        return cpu, f"on the CPU: the GPU failed when it was timed: {error}"
    if rows is None:
        return cpu, f"on the CPU: it is faster up to {CROSSOVER_ROWS[-1]} rows"
    return AutoDevice(cpu, gpu, rows), f"{cpu.name} below {rows} rows, from there on {which}"


def crossover(
    cpu: Engine, gpu: Engine, clock: Callable[[], float] = time.perf_counter
) -> int | None:
    """The smallest of `CROSSOVER_ROWS` from which on `gpu` is faster; None if it never is.

    Args:
        cpu: one engine.
        gpu: another one, of the same model.
        clock: seconds, ascending.
    """
    random = np.random.default_rng(0)
    found = None
    for rows in reversed(CROSSOVER_ROWS):
        # Other rows at every repeat: a CPU's branch predictor learns the same ones by heart.
        blocks = random.normal(size=(REPEATS, rows, cpu.num_features)).astype(np.float32)
        if _seconds(gpu, blocks, clock) >= _seconds(cpu, blocks, clock):
            break
        found = rows
    return found


def _seconds(engine: Engine, blocks: Rows, clock: Callable[[], float]) -> float:
    """The median time of scoring one block."""
    times = []
    for block in blocks:
        began = clock()
        engine.score([block])
        times.append(clock() - began)
    return float(np.median(times))


class AutoDevice(Engine):
    """Scores small batches on the CPU and large ones on a GPU.

    Args:
        cpu: scores batches of fewer rows than `rows`.
        gpu: scores the others.
        rows: the crossover.
    """

    def __init__(self, cpu: Engine, gpu: Engine, rows: int) -> None:
        self._cpu = cpu
        self._gpu = gpu
        self._rows = rows
        self.parts = (cpu, gpu)
        self.name = f"{cpu.name}+{gpu.name}"
        self.num_features = cpu.num_features
        self.batches_at_once = gpu.batches_at_once
        self.gpu = gpu.gpu

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch; see `Engine.score`."""
        engine = self._cpu if sum(map(len, blocks)) < self._rows else self._gpu
        return engine.score(blocks)
