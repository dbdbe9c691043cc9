"""A supply of models whose reader and worker do what a test tells them."""

from __future__ import annotations

import os
from collections.abc import Collection

from ranker.metrics.supervisor_recorder import SupervisorRecorder
from ranker.process.model_reader import ReadModel
from ranker.process.model_supply import ModelSupply
from ranker.process.settings import Settings
from ranker.repository.rollout_limits import RolloutLimits
from ranker.repository.wanted import Wanted, WantedModel, WantedRoute
from tests.metrics.support import Worker, new_aggregates
from tests.process.test_rollout import FakeWorker

NAME = "test-model-supply"


def new_file() -> int:
    return os.memfd_create(NAME)


class FakeReader:
    """Reads whatever is wanted, once it is told to."""

    def __init__(self, settings: Settings) -> None:
        del settings
        self.runs = 0
        self.models: list[ReadModel] = []
        self.failure: str | None = None
        self.reading = self.over = False

    def begin(self, wanted: Wanted, known: Collection[str]) -> None:
        self.abandon()
        self.wanted, self.known = wanted, set(known)
        self.failure, self.reading = None, True
        self.runs += 1

    def finish(self, failure: str | None = None) -> None:
        for model in self.wanted.models:
            key = f"books@{model.version}@ab"
            files = () if key in self.known else (new_file(), new_file())
            self.models.append(ReadModel(key, "books", model.version, files))
        self.over, self.failure = True, failure

    def look(self) -> bool:
        over = self.over
        if over:
            self.over = self.reading = False
        return over

    def abandon(self) -> None:
        self.reading = False
        for model in self.models:
            for fd in model.files:
                os.close(fd)
        self.models.clear()


def wanted(*versions: str, share: float = 0.0, entry: str = "") -> Wanted:
    """These versions of one model; the second is the canary."""
    labels = dict(zip(("stable", "canary"), versions, strict=False))
    traffic = {"stable": 100 - share, "canary": share} if share else {}
    route = WantedRoute(versions[0], labels, traffic, "s", RolloutLimits(errors=0.01), entry)
    # Another digest each time: the files have to be looked at again.
    models = [WantedModel(f"{v}.onnx", "books", v, sha256=entry) for v in versions]
    return Wanted(tuple(models), {"books": route})


class Clock:
    """In place of the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Setup:
    def __init__(self) -> None:
        names = [("", "")] * 4
        self.aggregates = new_aggregates(names)
        self.counts = Worker(self.aggregates)
        self.worker = FakeWorker()
        recorder = SupervisorRecorder(self.aggregates)
        self.supply = ModelSupply(Settings(()), self.aggregates, recorder, lambda: [self.worker])
        self.reader: FakeReader = self.supply._reader

    def prepared(self) -> None:
        """The worker has prepared what it was told last."""
        number = [facts["prepare"] for facts in self.worker.said if "prepare" in facts][-1]
        self.supply.on_message(self.worker, {"prepared": number})
        self.supply.step()

    def serve(self, wish: Wanted) -> None:
        self.supply.want(wish)
        self.reader.finish()
        self.supply.step()
        self.prepared()

    def die(self) -> None:
        """What the worker takes over kills it, and another one is started."""
        dead, self.worker = self.worker, FakeWorker()
        self.supply.on_death(dead)
        self.supply.on_start(self.worker)

    def try_in_vain(self, wish: Wanted) -> bool:
        """The wish is told, and kills the worker if it is tried; whether it was."""
        runs = self.reader.runs
        self.supply.want(wish)
        if self.reader.runs == runs:
            return False
        self.reader.finish()
        self.supply.step()
        self.die()
        return True

    def routes(self) -> dict:
        """Those of the generation that the worker was told of last."""
        return [facts["routes"] for facts in self.worker.said if "routes" in facts][-1]["books"]

    def slots(self) -> list[int]:
        """The metrics' numbers of the models that the worker was told of."""
        return [facts["slot"] for facts in self.worker.said if "model" in facts]


def told(s: Setup) -> tuple[str, list[str]]:
    """What the worker tells callers: the failure, and the states of versions not served."""
    facts = [facts for facts in s.worker.said if "others" in facts][-1]
    return facts["failure"], [other["state"] for other in facts["others"]]


def open_files() -> int:
    """How many of the models' files this process holds."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(NAME in os.readlink(link) for link in links if os.path.lexists(link))


def not_read(s: Setup, wish: Wanted, why: str) -> None:
    s.supply.want(wish)
    s.reader.finish(why)
    s.supply.step()
