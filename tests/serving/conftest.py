"""What the tests of the service share: it, over made-up engines, and requests to it."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.recorder import Recorder
from ranker.model import Model
from ranker.model.metadata import ModelMetadata
from ranker.serving.catalogue import Catalogue
from ranker.serving.cost import CostModel
from ranker.serving.dispatcher import Dispatcher
from ranker.serving.queue import Batcher
from ranker.serving.services import SERVICE, RankingService
from ranker.serving.task import Resources
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import INLINE, FakeCall, SumEngine


class Bench:
    """The service over made-up engines, without a transport."""

    def __init__(
        self, *engines, max_queue_rows: int = 10_000, max_queue_bytes: int = 10**9
    ) -> None:
        self.engines = engines or (SumEngine(),)
        names = ("books", "films")[: len(self.engines)]
        metadata = ModelMetadata(feature_names=("a", "b", "c"), trees=5, depth=2)
        models = [
            Model(engine, "made up", metadata, name, "7")
            for engine, name in zip(self.engines, names, strict=True)
        ]
        layout = Layout(tuple((model.name, model.version) for model in models), ("/test",))
        self.aggregates = Aggregates.private(layout)
        self.recorder = Recorder(self.aggregates)
        self.cost = CostModel()
        batcher = Batcher(
            [self.cost] * len(models),
            max_batch_rows=100,
            max_queue_rows=max_queue_rows,
            max_queue_bytes=max_queue_bytes,
        )
        self.dispatcher = Dispatcher(self.engines, batcher, self.recorder, lambda: None, INLINE)
        resources = Resources(Catalogue(models), self.dispatcher, self.recorder, 500)
        self.service = RankingService(resources)
        self.methods = self.service.methods()

    def pump(self) -> None:
        """As a loop with nothing to read does it."""
        while self.dispatcher.pump() is not None:
            pass

    def message(self, method: str, call: FakeCall, message) -> bool:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        handler = self.methods[f"/{SERVICE}/{method}"].handler
        if not call.opened:
            call.opened = True
            handler.opened(call)
        return handler.message(call, data)

    def rank(self, message, **call) -> pb.RankResponse:
        call = FakeCall(**call)
        self.message("Rank", call, message)
        self.pump()
        if call.error is not None:
            raise call.error
        assert call.over
        return pb.RankResponse.FromString(call.sent[0])


@pytest.fixture
def bench():
    made: list[Bench] = []

    def make(*args, **kwargs) -> Bench:
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.dispatcher.close()
        each.recorder.close()


def request(rows, **fields) -> pb.RankRequest:
    rows = np.asarray(rows, "<f4")
    matrix = pb.Matrix(rows=rows.shape[0], columns=rows.shape[1], data=rows.tobytes())
    return pb.RankRequest(candidates=matrix, **fields)


THREE = [[1, 1, 1], [5, 0, 0], [0, 0, 4]]


class Stream:
    """One RankStream call."""

    def __init__(self, bench: Bench, **call) -> None:
        self.bench = bench
        self.call = FakeCall(**call)
        self.handler = bench.methods[f"/{SERVICE}/RankStream"].handler

    def send(self, message) -> bool:
        return self.bench.message("RankStream", self.call, message)

    def answers(self) -> dict[str, pb.RankResponse]:
        self.bench.pump()
        responses = map(pb.RankResponse.FromString, self.call.sent)
        return {response.request_id: response for response in responses}
