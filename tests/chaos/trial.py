"""What one fault does to a server under load, and whether it recovers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.scrape import Scrape
from ranker.metrics import catalogue
from tests.chaos.counters import Counters
from tests.chaos.faults import FAULTS, Fault, Trial
from tests.chaos.load import Load
from tests.chaos.reloads import Reload, Reloads
from tests.chaos.site import VERSIONS, WORKERS, Site

RATE = 100.0
RELOAD_SECONDS = 2.0
RECOVERY_SECONDS = 15.0
"""Within which all is well again."""
_STEADY_SECONDS = 0.5
"""All is well when no call has failed for so long."""
_LOOK_SECONDS = 0.2


HEADS = (
    "seconds", "requests", "failed", "longest without an answer, s", "well again after, s",
    "wrong answers", "reloads served", "counts",
)  # fmt: skip


@dataclass
class Found:
    """What a fault has done.

    Attributes:
        seconds: that it lasted.
        requests: that began from its beginning until all was well again.
        failed: how those of them ended that failed, by their codes.
        silence: the longest time without an answer, in seconds.
        recovery: seconds from the healing until all was well.
        wrong: answers that were not XGBoost's.
        reloads: how many of those that were asked for meanwhile were served, and of how many.
        exact: whether the counts of the server and of its callers agree.
        failures: why the server has not passed.
    """

    seconds: float
    requests: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    silence: float = 0.0
    recovery: float = float("nan")
    wrong: int = 0
    reloads: tuple[int, int] = (0, 0)
    exact: bool = True
    failures: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str | int | float, ...]:
        """By `HEADS`."""
        failed = ", ".join(f"{code} {count}" for code, count in self.failed.items()) or 0
        reloads, counts = "{} of {}".format(*self.reloads), "exact" if self.exact else "off"
        times = self.silence, self.recovery
        return self.seconds, self.requests, failed, *times, self.wrong, reloads, counts


class Chaos:
    """A site under load, whose server serves another version every two seconds."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> Chaos:
        with self._held:
            enter = self._held.enter_context
            self.site = enter(Site())
            self._load = enter(Load(self.site.server.address, self.site.truth, RATE))
            ask = self.site.ask_for
            self._reloads = enter(Reloads(ask, VERSIONS, self._load, RELOAD_SECONDS))
            self._counters = Counters(self.site)
            self._held = self._held.pop_all()
        before, began = self._counters.look(), time.monotonic()
        assert before is not None
        if lacking := self._wait(before, began, len(VERSIONS) * RELOAD_SECONDS + RECOVERY_SECONDS):
            reason = f"{self.site.log()}\nwithout any fault: {lacking}"
            self._held.close()
            raise AssertionError(reason)
        self._wait_for_cache()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def possible(self, names: Sequence[str]) -> list[str]:
        """Those of the named faults, or of all, that can be made here."""
        wanted = names or list(FAULTS)
        return [name for name in wanted if self.site.clock or not name.startswith("clock")]

    def suffer(self, fault: Fault, seconds: float) -> Found:
        """Has a fault last for so long, and waits until all is well again, or too long."""
        load, first, lived = self._load, len(self._load.calls), self.site.processes()
        wrong, asked = len(load.wrong), len(self._reloads.done)
        began = time.monotonic()
        found = Found(0.0)
        try:
            with fault.begin(Trial(self.site, load, self._reloads, seconds)):
                if fault.lasts:
                    self._look_on(seconds)
                healed = time.monotonic()
        except AssertionError as error:
            healed = time.monotonic()
            found.failures.append(str(error))
        found.seconds = healed - began
        if lacking := self._recover(healed):
            found.failures.append(f"{RECOVERY_SECONDS:g} s after the fault: {lacking}")
        else:
            found.recovery = time.monotonic() - healed
        self._reloads.only = ""
        calls = load.calls[first:]
        found.requests = len(calls)
        found.failed = {code: n for code, n in load.codes(first).items() if code != "OK"}
        answers = [call.ended for call in calls if call.code == "OK"]
        ends = [began, *sorted(answers), time.monotonic()]
        found.silence = max(later - end for end, later in itertools.pairwise(ends))
        reloads = self._reloads.done[asked:]
        found.reloads = sum(1 for each in reloads if each.served), len(reloads)
        found.wrong = len(load.wrong) - wrong
        found.failures += [f"a wrong answer: {each}" for each in load.wrong[wrong:]]
        found.failures += [
            f"{name} has died" for pid, name in lived.items()
            if name not in fault.kills and pid not in self.site.processes()
        ]  # fmt: skip
        with load.paused():
            off = [*filter(None, [self._counters.agree(load)]), *self._counters.wrong]
        self._counters.wrong.clear()
        found.exact = not off
        found.failures += off
        return found

    def _look_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK_SECONDS, left))
            if left > _LOOK_SECONDS:
                self._counters.look()

    def _recover(self, healed: float) -> str:
        """Waits until all is well; returns what is not, if it has taken too long."""
        while (before := self._counters.look()) is None:
            if time.monotonic() > healed + RECOVERY_SECONDS:
                return "/metrics does not answer"
            time.sleep(0.02)
        return self._wait(before, healed, RECOVERY_SECONDS)

    def _wait(self, before: Scrape, since: float, seconds: float) -> str:
        reload = self._reloads.now()
        while True:
            scrape = self._counters.look()
            lacking = ", ".join(self._lacking(scrape, before, since, reload))
            if not lacking or time.monotonic() > since + seconds:
                return lacking
            if self._reloads.done[-1] is not reload and not reload.served:
                reload = self._reloads.done[-1]  # it came too late, and the next has been asked for
            time.sleep(0.02)

    def _lacking(
        self, scrape: Scrape | None, before: Scrape, since: float, reload: Reload
    ) -> Iterator[str]:
        if scrape is None:
            yield "/metrics does not answer"
            return
        now = time.monotonic()
        if any(call.code != "OK" and call.ended > now - _STEADY_SECONDS for call in self._recent()):
            yield "calls fail"
        if not reload.served or now < since + _STEADY_SECONDS:
            yield f"version {reload.version} is not served everywhere"
        if scrape.total(catalogue.WORKERS_SERVING.name) != WORKERS:
            yield "not all workers serve"
        if not scrape.grown(before, catalogue.RANKING_LOG_RECORDS.name):
            yield "the ranking log does not grow"
        exported = catalogue.EXPORT_POINTS.name
        if scrape.total(exported, outcome="exported") <= before.total(exported, outcome="exported"):
            yield "no metrics are exported"

    def _recent(self) -> Sequence[Any]:
        return self._load.calls[-int(2 * RATE) :]

    def _wait_for_cache(self) -> None:
        """Waits until each version has been served once, and so fetched."""
        limit = time.monotonic() + RECOVERY_SECONDS + len(VERSIONS) * RELOAD_SECONDS
        while {each.version for each in self._reloads.done if each.served} < set(VERSIONS):
            assert time.monotonic() < limit, "without any fault: a version is not served"
            time.sleep(0.1)
