"""What a worker has of the generations that the supervisor tells it of."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ranker.callers import CallerPolicy
from ranker.errors import ModelError, RankerError
from ranker.incident import incident
from ranker.metrics.recorder import Recorder
from ranker.model.packed import Packed, take_over
from ranker.process.heap import return_free_memory
from ranker.process.link import Link, Message
from ranker.process.memory_held import held
from ranker.process.settings import Settings
from ranker.repository.traffic import Sample, Split
from ranker.repository.wanted import WantedRoute
from ranker.serving.generation import Generation, Route
from ranker.serving.served_model import ServedModel
from ranker.serving.unserved import Unserved
from ranker.v1 import ranking_pb2 as pb

logger = logging.getLogger(__name__)

WIDER = 2
"""A model may have so many times the features of the widest of the first ones: the largest message
that is taken was settled with them."""


_OF_FILE, _OF_FILE_SHARED = 10, 2
"""How many times its file a model may take, at most: where the engine is made of the file (7 times
were seen), and where most of it is in shared memory (once)."""


class Generations:
    """Takes models over, and has generations of them ready to be served.

    It may be called from any thread, but from one at a time.

    Args:
        settings: how models are served.
        recorder: where their metrics go.
        link: to the supervisor, who hears what came of it.

    Attributes:
        unserved: what is wanted and not served, and why.
        policy: who may call.
        on_bytes: is told how many bytes the models hold, apart from shared memory.
    """

    def __init__(self, settings: Settings, recorder: Recorder, link: Link) -> None:
        self.unserved = Unserved()
        self.policy = CallerPolicy()
        self.on_bytes: Callable[[int], None] = lambda _: None
        self._settings = settings
        self._recorder = recorder
        self._link = link
        self._models: dict[int, ServedModel | RankerError] = {}
        self._bytes: dict[int, int] = {}
        self._prepared: dict[int, tuple[Generation, Sequence[int]]] = {}
        self._served: Sequence[int] = ()
        self._widest = 0

    def first(self) -> Generation | None:
        """Waits for the generation to begin with; None if the supervisor is gone.

        Raises:
            RankerError: its models can't be served here; the supervisor has not been told yet.
        """
        while (message := self._link.hear()) is not None:
            generation = self._take(message)
            if generation is not None:
                self._widest = max(model.features.num_features for model in generation.models)
                return generation
        return None

    @property
    def bytes(self) -> int:
        """What the models hold, apart from shared memory."""
        return sum(self._bytes.values())

    def on_message(self, message: Message) -> Generation | None:
        """Does what the supervisor says, and tells it if that can't be done.

        Returns:
            A generation that is to be served from now on.
        """
        try:
            return self._take(message)
        except RankerError as error:  # what is served now goes on being served
            logger.warning("these models can't be served: %s", error)
            self._link.say({"refused": message.facts["prepare"], "why": str(error)})
            return None

    def _take(self, message: Message) -> Generation | None:
        facts = message.facts
        if "model" in facts:
            self._models[facts["model"]] = self._load(facts["model"], facts["slot"], message.files)
        elif "prepare" in facts:
            self._prepare(facts["prepare"], facts["models"], facts["routes"])
        elif "switch" in facts:
            before = self._served
            generation, self._served = self._prepared[facts["switch"]]
            self._forget_others()
            for model in _loaded({n: self._models[n] for n in self._served if n not in before}):
                model.metrics.served(_facts(model))
            self._recorder.only_served({model.metrics.number for model in generation.models})
            _tell(generation)
            return generation
        elif "discard" in facts:
            self._forget_others()
        elif "callers" in facts:
            self.policy = CallerPolicy.from_facts(facts["callers"])
        elif "others" in facts:
            self.unserved = Unserved(tuple(map(_not_served, facts["others"])), facts["failure"])
        return None

    def _note_bytes(self, number: int, count: int) -> None:
        self._bytes[number] = count
        self.on_bytes(self.bytes)

    def _load(self, number: int, slot: int, files: Sequence[int]) -> ServedModel | RankerError:
        """Takes a model over and tries it; or why it can't be served."""
        began, used = time.monotonic(), 0
        settings = self._settings
        metrics = self._recorder.unknown_model()
        failure: RankerError
        try:
            file_fd, packed_fd = _both(files)
            packed = Packed.read(packed_fd)
            metrics = self._recorder.model(slot, (packed.name, packed.version))
            of_file = _OF_FILE if packed.layout is None else _OF_FILE_SHARED
            most = of_file * os.fstat(file_fd).st_size
            self._note_bytes(number, most)
            before = _own_bytes()
            model = take_over(packed, file_fd, settings.engine, settings.threads, settings.device)
            served = ServedModel(model, settings.max_batch_rows, metrics, packed.ranges)
            self._check_width(served)
            served.warm()
            # Callers hold more or less meanwhile, which is not to count.
            used = max(0, min(_own_bytes() - before, most))
        except RankerError as error:
            failure = error
        except Exception as error:
            failure = ModelError(incident(logger, "taking a model over failed", error))
        else:
            metrics.loaded(time.monotonic() - began)
            if model.engine.gpu:
                self._recorder.gpu_used(model.engine.gpu)
            return served
        finally:
            self._note_bytes(number, used)
            for fd in files:
                os.close(fd)
        metrics.load_failed()
        return failure

    def _check_width(self, served: ServedModel) -> None:
        features, most = served.features.num_features, WIDER * self._widest
        if most and features > most:
            raise ModelError(
                f"{served}: has {features} features, and this server takes requests of at most "
                f"{most}, twice those of its first models: start it again"
            )

    def _prepare(
        self, number: int, models: Sequence[int], routes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        served = []
        for each in models:
            model = self._models[each]
            if isinstance(model, RankerError):
                raise model
            served.append(model)
        plans = {name: WantedRoute.from_facts(route) for name, route in routes.items()}
        generation = Generation(served, number, {n: _route(plan) for n, plan in plans.items()})
        self._prepared[number] = generation, models
        self._link.say({"prepared": number})

    def _forget_others(self) -> None:
        """Forgets what is not served. A list that is being ranked keeps its model until its end."""
        self._prepared.clear()
        before, self._models = self._models, {each: self._models[each] for each in self._served}
        self._bytes = {each: self._bytes[each] for each in self._models}
        self.on_bytes(self.bytes)
        kept = {model.metrics.number for model in _loaded(self._models)}
        for model in _loaded(before):
            if model.metrics.number not in kept:
                model.metrics.unloaded()


def _own_bytes() -> int:
    """What this process holds, apart from shared memory and from what it would give back."""
    return_free_memory()
    return held().own


def _loaded(models: Mapping[int, ServedModel | RankerError]) -> Iterator[ServedModel]:
    return (model for model in models.values() if not isinstance(model, RankerError))


def _both(files: Sequence[int]) -> tuple[int, int]:
    """The two files of a model: the kernel leaves out those that there was no descriptor for."""
    if len(files) != 2:
        raise ModelError("it can't be taken over: too many files are open in this worker")
    return files[0], files[1]


def _route(wanted: WantedRoute) -> Route:
    split = Split(wanted.traffic, wanted.salt).arm if wanted.traffic else None
    return Route(
        wanted.default,
        wanted.labels,
        wanted.traffic,
        split,
        mark=wanted.split_mark(),
        held=wanted.held,
        shadow=wanted.shadow,
        shadow_share=wanted.shadow_share,
        in_sample=Sample.of_shadow(wanted.shadow_share, wanted.salt).has,
    )


def _not_served(facts: Mapping[str, str]) -> pb.Model:
    states = {"loading": pb.MODEL_STATE_LOADING, "failed": pb.MODEL_STATE_FAILED}
    name, version, state = facts["name"], facts["version"], states[facts["state"]]
    return pb.Model(name=name, version=version, state=state, state_reason=facts["reason"])


def _facts(served: ServedModel) -> dict[str, str]:
    """What the metrics say of a model."""
    model = served.model
    return {
        "engine": model.engine_name,
        "reason": model.engine_reason,
        "features": str(model.features.num_features),
        "trees": str(model.metadata.trees),
        "depth": str(model.metadata.depth),
        "objective": model.metadata.objective,
        "output": model.metadata.output,
    }


def _tell(generation: Generation) -> None:
    """Says in the log what is served."""
    for served in generation.models:
        model = served.model
        labels = "".join(f", label {label}" for label in generation.labels(served))
        if share := generation.shadow_share(served):
            labels += f", shadow of {share:g}% of the others' lists"
        logger.info(
            "generation %d: %s with %g%% of its traffic%s: %d features, %d trees, engine %s (%s)",
            generation.number,
            served,
            generation.share(served),
            labels,
            model.features.num_features,
            model.metadata.trees,
            model.engine_name,
            model.engine_reason,
        )
