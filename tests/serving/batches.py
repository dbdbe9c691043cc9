"""Queues and jobs to test the batcher with."""

from __future__ import annotations

import math

from ranker.serving.cost import CostModel
from ranker.serving.queue import Batcher, Job


def costing(fixed: float = 1e-4, per_row: float = 1e-6) -> CostModel:
    cost = CostModel()
    cost.fixed, cost.per_row = fixed, per_row
    return cost


def make(
    models: int = 1,
    *,
    max_batch_rows: int = 1000,
    max_queue_rows: int = 10_000,
    max_queue_bytes: int = 10**9,
    max_delay: float = 0.0,
    costs: list[CostModel] | None = None,
) -> Batcher:
    return Batcher(
        costs or [costing() for _ in range(models)],
        max_batch_rows=max_batch_rows,
        max_queue_rows=max_queue_rows,
        max_queue_bytes=max_queue_bytes,
        max_delay=max_delay,
    )


def job(rows: int = 10, model: int = 0, deadline: float = math.inf, arrived: float = 0.0) -> Job:
    return Job(model, rows, rows * 4, arrived, deadline)


def put(batcher: Batcher, *jobs: Job, now: float = 0.0) -> None:
    for each in jobs:
        batcher.admit(each, now)


def shares(batch) -> list[tuple[Job, int, int]]:
    return [tuple(piece) for piece in batch.pieces]
