"""Scores on a GPU with a kernel of our own: slots of pinned memory, each with a stream.

`docs/design/gpu.md` says how the kernel works, and what is yet to be measured.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from ranker.engine.api import Engine, EngineLostError, Rows, Scores, check_blocks
from ranker.engine.gpu.kernel_tables import ROWS, GpuForest

SLOTS = 2
"""One is filled or emptied while the GPU works on the other."""

SLOT_BYTES = 1 << 23
"""Rows of a slot: at 64 features 32768, which are 1024 blocks, more than an H200 runs at once."""

COLUMN_BYTES = 1 << 28
"""Columns of a slot where they don't fit shared memory."""

MAX_SLOT_ROWS = 1 << 16


class Slot(Protocol):
    """Memory for some rows and their scores, on the host and on the device.

    Attributes:
        rows: float32 [capacity, num_features], pinned.
        scores: float32 [capacity], pinned.
    """

    rows: Rows
    scores: Scores

    def start(self, count: int) -> None:
        """Has the first rows copied and scored, and returns at once."""

    def wait(self) -> None:
        """Waits until what was started is done, and its scores are in `scores`."""


class Device(Protocol):
    """A GPU that has the tables of one forest."""

    @property
    def gpu(self) -> str:
        """Which GPU: its PCI bus id."""

    def make_slot(self, capacity: int) -> Slot:
        """Allocates a slot for so many rows."""

    def lost(self) -> bool:
        """Whether nothing can be done with it any more in this process."""


class KernelEngine(Engine):
    """Scores a forest on a device, each row exactly as XGBoost does.

    A row goes left where x < threshold in float32; NaN goes to the split's
    missing side; the leaves are summed in float32 in the order of the trees,
    from 0 on, and `forest.base` is added at the end. A logistic score is made
    in float64 and rounded.

    Batches overlap: each takes a free slot, is copied there, and started. A batch
    larger than a slot is cut, and its pieces overlap.

    Args:
        device: where to run.
        tables: the forest that the device has.
    """

    name = "cuda"
    batches_at_once = SLOTS

    def __init__(self, device: Device, tables: GpuForest) -> None:
        self.num_features = tables.num_features
        self.gpu = device.gpu
        self._device = device
        self._capacity = slot_rows(tables)
        self._idle: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(SLOTS):
            slot = device.make_slot(self._capacity)
            slot.rows[:] = 0
            slot.start(self._capacity)  # so that no request's batch is the first
            slot.wait()
            self._idle.put(slot)

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch; see `Engine.score`.

        Raises:
            ValueError: a block is not float32 [n, num_features].
            EngineLostError: the GPU failed, and will fail whatever it is asked.
        """
        check_blocks(blocks, self.num_features)
        scores = np.empty(sum(map(len, blocks)), np.float32)
        begin = 0
        running: deque[tuple[Slot, Scores]] = deque()  # each with the scores that it makes
        try:
            for piece in cut(blocks, self._capacity):
                slot = self._free_slot(running)
                count = sum(map(len, piece))
                running.append((slot, scores[begin : begin + count]))
                np.concatenate(piece, out=slot.rows[:count])
                slot.start(count)
                begin += count
            while running:
                self._collect(running)
        except BaseException as error:
            for slot, _ in running:
                with suppress(Exception):  # the first error is the one to tell
                    slot.wait()  # before others use it
                self._idle.put(slot)
            if isinstance(error, Exception) and self._device.lost():
                raise EngineLostError(f"GPU {self.gpu} is lost: {error}") from error
            raise
        return scores

    def _free_slot(self, running: deque[tuple[Slot, Scores]]) -> Slot:
        """An idle slot; waits for one's own batch before it waits for those of others."""
        while True:
            try:
                return self._idle.get(block=not running)
            except queue.Empty:
                self._collect(running)

    def _collect(self, running: deque[tuple[Slot, Scores]]) -> None:
        """Takes the scores of what was started first, and gives its slot back."""
        slot, scores = running[0]
        slot.wait()
        scores[:] = slot.scores[: len(scores)]
        running.popleft()
        self._idle.put(slot)


def slot_rows(tables: GpuForest) -> int:
    """The rows of a slot: whole blocks, as many as `SLOT_BYTES` and `COLUMN_BYTES` allow."""
    per_block = ROWS * tables.num_features * 4
    blocks = min(SLOT_BYTES // per_block, COLUMN_BYTES // tables.column_bytes)
    return min(MAX_SLOT_ROWS, ROWS * max(1, blocks))


def cut(blocks: Sequence[Rows], capacity: int) -> Iterator[list[Rows]]:
    """Cuts a batch into pieces of `capacity` rows, the last of fewer, each a list of blocks."""
    piece: list[Rows] = []
    room = capacity
    for block in blocks:
        while len(block):
            part, block = block[:room], block[room:]
            piece.append(part)
            room -= len(part)
            if not room:
                yield piece
                piece, room = [], capacity
    if piece:
        yield piece
