"""Queues and candidate lists to test them with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ranker.serving.batcher import Batcher
from ranker.serving.cost import CostModel
from ranker.serving.queue import Queue


def costing(fixed: float = 1e-4, per_row: float = 1e-6) -> CostModel:
    cost = CostModel()
    cost.fixed, cost.per_row = fixed, per_row
    return cost


@dataclass(eq=False)
class WaitingList:
    """A candidate list, as the queue knows it."""

    rows: int
    model: int
    deadline: float
    arrived: float
    size: int
    cancelled: bool = False
    taken: int = 0
    waited: bool = False
    batcher: Any = None
    holder: str = ""
    quota: Any = None
    caller: str = "a"

    def holder_name(self) -> str:
        return self.caller


class ModelsQueue(Queue[WaitingList]):
    """A queue for models that go by numbers."""

    def __init__(self, costs: list[CostModel], max_batch_rows: int, **limits: float) -> None:
        super().__init__(**limits)
        self.batchers: list[Batcher[WaitingList]] = []
        for cost in costs:
            batcher: Batcher[WaitingList] = Batcher(max_batch_rows)
            batcher.cost = cost
            self.batchers.append(batcher)

    def put(self, *lists: WaitingList, now: float = 0.0) -> None:
        for each in lists:
            each.batcher = self.batchers[each.model]
            self.admit(each, now)

    def ahead(self, batcher: Batcher[WaitingList], rows: int) -> float:
        """Predicted seconds of engine time before a list that comes now is scored."""
        mine = batcher.ahead_of(rows)
        return mine + self.others_before(batcher, mine + batcher.cost.predict(rows))

    def check(self, deadline: float, now: float = 0.0, caller: str = "a") -> None:
        self.check_unread(a_list(deadline=deadline, caller=caller), now, len(self.batchers))


def make(
    models: int = 1,
    *,
    max_batch_rows: int = 1000,
    max_queue_rows: int = 10**6,
    max_queue_bytes: int = 10**9,
    max_delay: float = 0.0,
    costs: list[CostModel] | None = None,
) -> ModelsQueue:
    return ModelsQueue(
        costs or [costing() for _ in range(models)],
        max_batch_rows,
        max_rows=max_queue_rows,
        max_bytes=max_queue_bytes,
        max_delay=max_delay,
    )


def a_list(
    rows: int = 10,
    model: int = 0,
    deadline: float = math.inf,
    arrived: float = 0.0,
    caller: str = "a",
) -> WaitingList:
    return WaitingList(rows, model, deadline, arrived, rows * 4, caller=caller)


def model_of(batch) -> int:
    [model] = {each.model for each, _, _ in batch.pieces}
    return model
