"""Supplies the workers with models: from what is wanted to what they serve."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ranker.callers import CallerPolicy
from ranker.errors import ModelError
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.supervisor_recorder import NamedModel, SupervisorRecorder
from ranker.process.child import Child
from ranker.process.model_reader import ModelReader
from ranker.process.model_slots import ModelSlots
from ranker.process.rollout import Plan, PreparedModel, Rollout
from ranker.process.rollout_guard import Breach, RolloutGuard
from ranker.process.settings import Settings
from ranker.process.shared_files import SharedFiles
from ranker.repository.holds import Holds
from ranker.repository.wanted import Wanted, WantedModel, WantedRoute

logger = logging.getLogger(__name__)

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 300.0
"""If a worker ended while new models were taken over, seconds before they are tried again; doubled
each time. Maybe they have killed it, and will kill another one."""


class ModelSupply:
    """Has models read, and brings them to the workers, one generation after the other.

    Whatever goes wrong, the workers serve on what they served before.

    Args:
        settings: the server's.
        aggregates: the metrics' file.
        recorder: where switches are counted.
        workers: gives those that run now.

    Attributes:
        failure: why what was wanted last can't be served; None if nothing speaks against it.
    """

    def __init__(
        self,
        settings: Settings,
        aggregates: Aggregates,
        recorder: SupervisorRecorder,
        workers: Callable[[], Sequence[Child]],
    ) -> None:
        self.failure: str | None = None
        self._settings = settings
        self._workers = workers
        self._recorder = recorder
        self._aggregates = aggregates
        self._slots = ModelSlots(aggregates)
        self._rollout = Rollout(workers, self._name_shadows, self._on_end)
        self._guard = RolloutGuard(aggregates)
        self._holds = Holds()
        self._policy = CallerPolicy()
        self._wanted: Wanted | None = None
        self._answer: Plan | None = None  # to what is wanted
        self._failed: str | None = None  # why that can't be served
        self._pause = FIRST_PAUSE
        self._again_at = 0.0  # it is not tried again before
        self._reader = ModelReader(settings)
        self._models: dict[str, PreparedModel] = {}
        self._known: dict[WantedModel, PreparedModel] = {}
        self._read = 0  # models so far
        self._generations = 0
        self._began = 0.0

    def want(self, wanted: Wanted) -> None:
        """Sets what is to be served from as soon as possible.

        What could not be served before is tried again: a process may have died, for example. If it
        was a worker, that waits for a while.
        """
        if wanted.failure:
            self._recorder.switch_failed()
        same, self._wanted = wanted == self._wanted, wanted
        if same and (self._failed is None or time.monotonic() < self._again_at):
            failure = self._failed or wanted.failure or None
            if self.failure != failure:
                self.failure = failure
                self._tell_workers()
            return
        if not same:
            self.failure = wanted.failure or None
            self._pause = FIRST_PAUSE
        self._start(wanted)

    def _start(self, wanted: Wanted) -> None:
        """Has what is wanted read and served, from the beginning."""
        self._answer, self._failed, self._again_at = None, None, 0.0
        self._began = time.monotonic()
        self._reader.abandon()
        self._tell_workers()
        known = [self._known.get(model) for model in wanted.models]
        if all(model is not None for model in known):
            self._begin([model for model in known if model is not None], wanted)
        else:
            self._reader.begin(wanted, self._models.keys())

    @property
    def start_failure(self) -> str | None:
        """Why a server that serves nothing yet never will; None if it may, or serves something.

        Once it is known what is wanted, that alone counts: the configuration may be right again at
        the next look at it.
        """
        if self._rollout.current is not None:
            return None
        return self.failure if self._wanted is None else self._failed

    def fail(self, reason: str) -> None:
        """Notes why nobody can say what is wanted now."""
        self.failure = reason
        self._recorder.switch_failed()
        self._tell_workers()

    def try_again(self) -> None:
        """Somebody asks for it: what could not be served may be tried again at once."""
        self._again_at = 0.0

    def on_start(self, child: Child) -> None:
        """A worker has started."""
        # First what it is to tell and whom it is to let in: it serves once it has its models.
        child.say({"callers": self._policy.to_facts()})
        child.say(self._unserved())
        self._rollout.on_start(child)

    def on_death(self, child: Child) -> None:
        """A worker has ended; maybe what it was to serve next has killed it."""
        answer = self._answer
        plan, told = self._rollout.on_death(child)
        if plan is None:
            return
        if plan is not answer:  # something else is wanted by now
            self._failed = None
            return
        pause = self._pause if told else FIRST_PAUSE
        self._again_at = time.monotonic() + pause
        logger.info("these models are tried again in %.0f s, or at SIGHUP", pause)
        if told:
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)

    def on_message(self, child: Child, message: Mapping[str, Any]) -> None:
        """A worker has said something of its models."""
        self._rollout.on_message(child, message)

    def step(self) -> bool:
        """Goes on as far as it can without waiting. Returns whether it waits for a process."""
        if self._reader.look():
            self._on_read()
        self._rollout.step()
        if self._rollout.pending is None and (breach := self._guard.look(time.monotonic())):
            self._roll_back(breach)
        self._slots.retire_due(time.monotonic())
        if self._wanted is not None and 0.0 < self._again_at <= time.monotonic():
            self._start(self._wanted)
        return self._reader.reading or self._rollout.pending is not None

    def close(self) -> None:
        """Ends the process that reads models, if there is one."""
        self._reader.close()

    def _on_read(self) -> None:
        failure = self._reader.failure
        if failure is not None:
            self._recorder.load_failed()
        else:
            try:
                self._begin(self._take_over(), self._reader.wanted)
            except ModelError as error:
                failure = error.message
        self._reader.abandon()
        if failure is not None:
            self._on_end(failure)

    def _take_over(self) -> list[PreparedModel]:
        """The models that were wanted: those that were known, and those that have been read."""
        self._slots.require_room([(read.name, read.version) for read in self._reader.models])
        models = []
        while self._reader.models:
            read = self._reader.models[0]
            if len(read.files) != 2 and (read.files or read.key not in self._models):
                # The kernel leaves out those that there was no descriptor for.
                raise ModelError("too many files are open in the server to take models over")
            if read.files:
                slot = self._slots.slot((read.name, read.version))
                self._read += 1
                files = SharedFiles(read.files)
                self._models[read.key] = PreparedModel(read.key, self._read, slot, files)
            models.append(self._models[read.key])
            del self._reader.models[0]  # its files are this one's now
        self._known = dict(zip(self._reader.wanted.models, models, strict=True))
        return models

    def _begin(self, models: Sequence[PreparedModel], wanted: Wanted) -> None:
        self._answer = self._plan(models, wanted.routes)
        self._rollout.begin(self._answer)

    def _plan(self, models: Sequence[PreparedModel], routes: Mapping[str, WantedRoute]) -> Plan:
        self._generations += 1
        return Plan(self._generations, models, self._holds.apply(routes))

    def _roll_back(self, breach: Breach) -> None:
        """Moves a version's share of the traffic to `stable`; nothing else changes."""
        current = self._rollout.current
        assert current is not None, "what is not served has no traffic"
        reason = f"the guard holds it: {breach.reason}"
        if self._holds.add(breach.name, breach.route.entry, breach.labels, reason):
            logger.warning(
                "%s: the guard moves the %g %% of %s to stable: %s. It stays so until the "
                "configuration of %s changes",
                breach.name,
                sum(breach.route.traffic[label] for label in breach.labels),
                " and ".join(breach.labels),
                breach.reason,
                breach.name,
            )
            self._recorder.rolled_back(breach.slot)
        self._began = time.monotonic()
        self._rollout.begin(self._plan(current.models, current.routes))

    def _name_shadows(self, plan: Plan) -> None:
        """Says in the metrics which versions are shadows now; what the last ones counted stays."""
        for model in plan.models:
            name, version, _ = model.key.split("@")
            route = plan.routes.get(name)
            if route is not None and route.shadow not in ("", version):
                self._aggregates.name_shadow(model.slot, route.shadow)

    def _on_end(self, failure: str | None) -> None:
        current = self._rollout.current
        known = failure is not None and failure == self.failure
        if failure is not None or current is self._answer:
            self.failure = failure or (self._wanted and self._wanted.failure) or None
            self._failed = failure
        seconds = time.monotonic() - self._began
        if failure is None and current is not None:
            self._recorder.switched(current.number, _named(current))
            self._guard.watch(current)
            for name in self._holds.keep(current.routes):
                logger.info("%s: its configuration has changed: the guard lets it go", name)
            names = ", ".join(model.name for model in current.models)
            logger.info("generation %d in %.2f s: %s", current.number, seconds, names)
        else:
            self._recorder.switch_failed()
            if current is not None and not known:  # at the start the server ends, and says why
                logger.error("generation %d goes on being served: %s", current.number, failure)
        self._forget_others()
        self._tell_workers()

    def let_in(self, callers: CallerPolicy) -> None:
        """Has all workers let in whom the configuration names, whatever becomes of the models."""
        policy = self._settings.caller_policy(callers)
        if policy == self._policy:
            return
        self._policy = policy
        self._aggregates.name_callers(policy.names)
        for child in self._workers():
            child.say({"callers": policy.to_facts()})

    def _forget_others(self) -> None:
        """Closes the files of models that are not served, nor about to be."""
        plans = (self._rollout.current, self._rollout.pending)
        kept = {model for plan in plans if plan is not None for model in plan.models}
        if self._reader.reading:  # the preparer has been told which models are there
            kept.update(self._models.values())
        for model in set(self._models.values()) - kept:
            self._models.pop(model.key).close()
        self._known = {wanted: model for wanted, model in self._known.items() if model in kept}
        names = [(name, version) for name, version, _ in (m.key.split("@") for m in kept)]
        self._slots.leave(names, time.monotonic())

    def _tell_workers(self) -> None:
        """Tells the workers what is wanted and not served, and why."""
        for child in self._workers():
            child.say(self._unserved())

    def _unserved(self) -> dict[str, Any]:
        return {"others": self._others(), "failure": self.failure or ""}

    def _others(self) -> list[dict[str, str]]:
        current = self._rollout.current
        served = current.models if current is not None else ()
        wanted = self._wanted.models if self._wanted is not None else ()
        facts = {"reason": self.failure or "", "state": "failed" if self.failure else "loading"}
        return [
            {"name": model.name, "version": model.version, **facts}
            for model in wanted
            if model.name and self._known.get(model) not in served
        ]


def _named(plan: Plan) -> dict[int, NamedModel]:
    """How requests find the models of a generation, by their numbers in the metrics."""
    named = {}
    for model in plan.models:
        name, version, _ = model.key.split("@")
        route = plan.routes.get(name)
        if route is not None:
            mark = route.split_mark()
            share = route.share(version) if mark else 0.0
            named[model.slot] = NamedModel(route.names(version), mark, share)
    return named
