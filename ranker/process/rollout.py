"""Brings a new set of models to all workers, in two phases.

First every worker takes the models over and says that it can serve them (`prepared`); then all
are told to (`switch`). Until then all serve what they served before, and so they do for good if one
of them can't, or ends meanwhile. A worker that starts in between is told first of what is served,
then of what is to come.

Models may kill the worker that takes them over: a crash in native code, or no memory left. So one
worker begins, beside others that serve, and they follow once it has prepared.

What the supervisor says to a worker, in this order:

- `{"model": ID, "slot": N}` with two files: a model (`ranker.model.packed`), and its number in
  the metrics;
- `{"prepare": G, "models": [ID, ...], "routes": {...}}`: a generation of these;
- `{"switch": G}`: serve it, and forget what is not in it;
- `{"discard": G}`: don't, and forget what only it has;
- `{"others": [...], "failure": "..."}`: what to tell callers of versions that are wanted and not
  served, and why what is wanted can't be.

A worker answers `{"prepared": G}`, or `{"refused": G, "why": "..."}`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ranker.process.child import Child
from ranker.process.shared_files import SharedFiles
from ranker.repository.wanted import WantedRoute

logger = logging.getLogger(__name__)

PREPARE_SECONDS = 60.0
"""A generation is given up if workers have not prepared it so long after they were told to."""


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A model that the preparer has read.

    Attributes:
        key: tells it from every other one: name, version and digest.
        number: one that no other model of this server has had.
        slot: where its metrics are.
        files: its file, and what was prepared of it, both in memory.
    """

    key: str
    number: int
    slot: int
    files: SharedFiles

    @property
    def name(self) -> str:
        """What it is called, with its version."""
        return self.key.rpartition("@")[0]

    def close(self) -> None:
        """Leaves its files; processes that have taken it over keep theirs."""
        self.files.release()


@dataclass(frozen=True, eq=False)
class Plan:
    """A generation to be served.

    Attributes:
        number: counts from 1.
        models: the default first.
        routes: by name.
    """

    number: int
    models: Sequence[PreparedModel]
    routes: Mapping[str, WantedRoute]

    def tell(self, child: Child, known: Sequence[PreparedModel] = ()) -> None:
        """Has a worker prepare it; `known` models it has already."""
        for model in self.models:
            if model not in known:
                child.say({"model": model.number, "slot": model.slot}, model.files)
        routes = {name: asdict(route) for name, route in self.routes.items()}
        models = [model.number for model in self.models]
        child.say({"prepare": self.number, "models": models, "routes": routes})


class Rollout:
    """What the workers serve, and what they are to serve next.

    Args:
        workers: gives those that run now.
        before_switch: is called before the first worker is told to serve a generation.
        on_end: is called when a switch has been made (None), or not, with the reason.

    Attributes:
        current: what they serve; None at first.
        pending: what they are to serve next, if there is anything.
    """

    def __init__(
        self,
        workers: Callable[[], Sequence[Child]],
        before_switch: Callable[[Plan], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        self.current: Plan | None = None
        self.pending: Plan | None = None
        self._workers = workers
        self._before_switch = before_switch
        self._on_end = on_end
        self._told: set[Child] = set()
        self._prepared: set[Child] = set()
        self._limit = 0.0

    def begin(self, plan: Plan) -> None:
        """Has all workers prepare a generation, in place of one that is still pending."""
        self.give_up(None)
        self.pending = plan
        self._limit = time.monotonic() + PREPARE_SECONDS
        self._tell(plan, self._workers())

    def on_start(self, child: Child) -> None:
        """Tells a worker that has just started what is served; what is to come, `step` does."""
        if self.current is not None:
            self.current.tell(child)
            child.say({"switch": self.current.number})

    def on_death(self, child: Child) -> tuple[Plan | None, bool]:
        """A worker has ended.

        What was to be served is given up if it has new models, for they may have killed it: also if
        it had not been told of them, or had prepared them, since a system without memory ends
        whichever process it likes.

        Returns:
            What has been given up, if anything; and whether the worker had been told of it.
        """
        told = child in self._told
        self._told.discard(child)
        self._prepared.discard(child)
        plan = self.pending
        if plan is None or not self._may_kill(plan):
            return None, told
        self.give_up("a worker ended while new models were taken over")
        return plan, told

    def on_message(self, child: Child, message: Mapping[str, Any]) -> None:
        """Takes what a worker says of a generation."""
        if self.pending is None:
            return
        if message.get("prepared") == self.pending.number:
            self._prepared.add(child)
        elif message.get("refused") == self.pending.number:
            self.give_up(str(message["why"]))

    def step(self) -> None:
        """Switches once all workers that run have prepared, or gives up."""
        if self.pending is None:
            return
        running = self._workers()
        if running and self._prepared.issuperset(running):
            self._switch(self.pending, running)
        elif time.monotonic() > self._limit and self.current is not None:
            self.give_up(self._too_late())
        else:
            self._tell(self.pending, running)

    def give_up(self, reason: str | None) -> None:
        """Has the workers forget what is pending.

        Args:
            reason: why; None: something else is wanted by now.
        """
        if self.pending is None:
            return
        number, self.pending = self.pending.number, None
        self._told.clear()
        self._prepared.clear()
        for child in self._workers():
            child.say({"discard": number})
        if reason is not None:
            self._on_end(reason)

    def _switch(self, plan: Plan, running: Sequence[Child]) -> None:
        self.current, self.pending = plan, None
        self._told.clear()
        self._prepared.clear()
        self._before_switch(plan)
        for child in running:
            child.say({"switch": plan.number})
        self._on_end(None)

    def _tell(self, plan: Plan, running: Sequence[Child]) -> None:
        """Has workers prepare it that have not been told to: one first, if it may kill them."""
        untold = [child for child in running if child not in self._told]
        if self._may_kill(plan) and not self._prepared:
            untold = [] if self._told else untold[:1]
        if not untold:
            return
        self._limit = time.monotonic() + PREPARE_SECONDS
        for child in untold:
            self._told.add(child)
            plan.tell(child, self.current.models if self.current else ())

    def _may_kill(self, plan: Plan) -> bool:
        """Whether workers that serve would take over models that they have not had so far."""
        return self.current is not None and not set(plan.models) <= set(self.current.models)

    def _too_late(self) -> str:
        waiting = len(self._told - self._prepared)
        return (
            f"{waiting} of {len(self._told)} workers that were told were not ready within "
            f"{PREPARE_SECONDS:.0f} s: they may lack CPU time, or the models are too large to be "
            "loaded beside those that are served. A server that is started anew loads them first "
            "and waits for as long as they take"
        )
