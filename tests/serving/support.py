"""All of serving but a transport: models on made-up engines, a queue, a loop that tests turn."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Engine
from ranker.errors import RankerError
from ranker.methods import SERVICES
from ranker.metrics.families import Distribution
from ranker.metrics.recorder import Recorder
from ranker.metrics.snapshot import snapshot
from ranker.model import Model
from ranker.model.metadata import ModelMetadata
from ranker.serving.dispatcher import Dispatcher
from ranker.serving.drift import DriftSample
from ranker.serving.explanations import Explanations
from ranker.serving.generation import Generation
from ranker.serving.health import Health
from ranker.serving.intake import Intake
from ranker.serving.open_inference.service import OpenInferenceService
from ranker.serving.queue import Queue
from ranker.serving.served_model import ServedModel
from ranker.serving.services import SERVICE, RankingService
from ranker.serving.shadow import Shadows
from ranker.serving.task import RankTask
from ranker.serving.wire import RANK
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import FakeCall, SumEngine
from tests.metrics.support import new_aggregates
from tests.waiting import PATIENCE

LONGEST_BATCH = 0.004
"""Seconds, of a dispatcher: a batch that takes longer is scored on an engine's thread."""

NAMES = (("books", "7"), ("films", "7"))
THREE = [[1, 1, 1], [5, 0, 0], [0, 0, 4]]


def request(rows: Any, **fields: Any) -> pb.RankRequest:
    rows = np.asarray(rows, "<f4")
    matrix = pb.Matrix(rows=rows.shape[0], columns=rows.shape[1], data=rows.tobytes())
    return pb.RankRequest(candidates=matrix, **fields)


class ListTask(RankTask):
    """A list of a test's own, that remembers what has become of it."""

    def __init__(self, serving: Serving, rows: int, deadline: float = math.inf) -> None:
        call = FakeCall(deadline=deadline)
        super().__init__(None, call.arrived, call, serving.unknown, RANK)
        served = self.served = serving.models[0]
        self.batcher, self.metrics = served.batcher, served.metrics
        random = np.random.default_rng(rows)
        self.candidates = random.normal(size=(rows, 3)).astype(np.float32)
        self.rows, self.size = rows, self.candidates.nbytes
        self.on_outcome: Callable[[ListTask, bytes | RankerError], None] = serving.remember

    def connection(self) -> str:
        return "test"

    def _answer(self, message: bytes) -> None:
        self.on_outcome(self, message)

    def _refuse(self, error: RankerError) -> None:
        self.on_outcome(self, error)


class Serving:
    """Models, a queue, a dispatcher and the service, without a transport.

    Attributes:
        answered: the rows and the scores of each `ListTask` that was ranked.
        refused: the errors of those that were not.
        lost: how often an engine was lost.
    """

    def __init__(
        self,
        *engines: Engine,
        fixed: float = 0.0,
        longest_batch: float = LONGEST_BATCH,
        max_batch_rows: int = 100,
        max_queue_rows: int = 10_000,
        max_queue_bytes: int = 10**9,
        max_shadow_bytes: int = 10**6,
        max_explained_bytes: int = 10**6,
        max_delay: float = 0.0,
        max_deadline: float = 30.0,
    ) -> None:
        self.engines = engines or (SumEngine(),)
        names = NAMES[: len(self.engines)]
        self.aggregates = new_aggregates(names)
        self.recorder = Recorder(self.aggregates)
        metadata = ModelMetadata(feature_names=("a", "b", "c"), trees=5, depth=2)
        self.models = [
            ServedModel(
                Model(engine, "made up", metadata, *name),
                max_batch_rows,
                self.recorder.model(number, name),
            )
            for number, (engine, name) in enumerate(zip(self.engines, names, strict=True))
        ]
        for served in self.models:
            served.batcher.cost.fixed = fixed
        self.queue: Queue[RankTask] = Queue(
            max_rows=max_queue_rows, max_bytes=max_queue_bytes, max_delay=max_delay
        )
        self.unknown = self.recorder.unknown_model()
        self._soon: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.lost = 0
        self.shadows = Shadows(self.recorder, max_shadow_bytes, longest_batch)
        self.drift = DriftSample(None)
        self.explanations = Explanations(self.recorder, max_explained_bytes, self._soon.put)
        self.dispatcher = Dispatcher(
            self.queue,
            self.recorder,
            self.shadows,
            self.drift,
            self.explanations,
            batches_at_once=min(engine.batches_at_once for engine in self.engines),
            longest_batch=longest_batch,
            call_soon=self._soon.put,
            on_engine_lost=self._count_loss,
        )
        self.intake = Intake(
            Generation(self.models),
            self.queue,
            self.explanations,
            self.unknown,
            max_rows=500,
            max_deadline=max_deadline,
        )
        self.service = RankingService(self.intake)
        self.health = Health(SERVICES)
        self.open_inference = OpenInferenceService(self.intake, self.health, "0.1")
        self.methods = {**self.service.methods(), **self.open_inference.methods()}
        self.answered: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self.refused: list[RankerError] = []

    @property
    def cost(self):
        """The cost model of the first model."""
        return self.models[0].batcher.cost

    def submit(self, rows: int, deadline: float = math.inf) -> ListTask:
        """Queues a list of the first model, without the service."""
        task = ListTask(self, rows, deadline)
        self.queue.admit(task, time.monotonic())
        return task

    def turn(self) -> float | None:
        """One turn of the loop."""
        while True:
            try:
                function = self._soon.get_nowait()
            except Empty:
                return self.dispatcher.turn()
            function()

    def turn_until_idle(self) -> None:
        """Turns until nothing waits, and nothing is being scored."""
        self.turn_until(self.dispatcher.idle)

    def turn_until(self, condition: Callable[[], object]) -> None:
        """Turns until something has happened."""
        end = time.monotonic() + PATIENCE
        self.turn()
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            with contextlib.suppress(Empty):
                self._soon.get(timeout=0.001)()
            self.turn()

    def remember(self, task: ListTask, outcome: bytes | RankerError) -> None:
        assert threading.current_thread() is threading.main_thread()
        if isinstance(outcome, RankerError):
            self.refused.append(outcome)
            return
        response = pb.RankResponse.FromString(outcome)
        scores = np.empty(task.rows, np.float32)
        scores[list(response.indices)] = response.scores
        self.answered.append((task.candidates, scores))

    def check(self, answers: int) -> None:
        """So many lists are answered, and rightly."""
        assert len(self.answered) == answers
        for rows, scores in self.answered:
            np.testing.assert_array_equal(scores, rows.sum(axis=1, dtype=np.float32))

    def counted(self) -> dict[str, float]:
        """By the names of metrics, histograms by their sum, all labels taken together."""
        return {
            family.metric.name: sum(
                sample.value.sum if isinstance(sample.value, Distribution) else sample.value
                for sample in family.samples
            )
            for family in snapshot(self.aggregates)
        }

    def send(self, method: str, call: FakeCall, message: Any) -> bool:
        """Gives a handler a call's message, as a transport does.

        A method without a service is one of `ranker.v1`.
        """
        data = message if isinstance(message, bytes) else message.SerializeToString()
        handler = self.methods[f"/{SERVICE}/{method}" if method[0] != "/" else method].handler
        if not call.opened:
            call.opened = True
            if not handler.opened(call):
                return False
        return handler.message(call, data)

    def close_call(self, method: str, call: FakeCall) -> None:
        self.methods[f"/{SERVICE}/{method}"].handler.closed(call)

    def rank(self, message: Any, **call: Any) -> pb.RankResponse:
        """Ranks one list; raises what it is refused with."""
        asked = FakeCall(**call)
        self.send("Rank", asked, message)
        self.turn_until_idle()
        if asked.error is not None:
            raise asked.error
        assert asked.over
        return pb.RankResponse.FromString(asked.sent[0])

    def close(self) -> None:
        self.dispatcher.close()
        self.explanations.close()
        self.recorder.close()

    def _count_loss(self) -> None:
        self.lost += 1


class StreamOfLists:
    """One call of RankStream."""

    def __init__(self, serving: Serving, **call: Any) -> None:
        self.serving = serving
        self.call = FakeCall(**call)
        self.handler = serving.methods[f"/{SERVICE}/RankStream"].handler

    def send(self, message: Any) -> bool:
        return self.serving.send("RankStream", self.call, message)

    def answers(self) -> dict[str, pb.RankResponse]:
        self.serving.turn_until_idle()
        responses = map(pb.RankResponse.FromString, self.call.sent)
        return {response.request_id: response for response in responses}
