"""Reloads: every so often the server is to serve another version."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.load import Load


@dataclass
class Reload:
    """A version that was asked for, when, and when it was served everywhere; 0: not yet."""

    version: str
    asked: float
    served: float = 0.0


class Reloads:
    """Asks for one version after the other.

    Args:
        ask: has the server told which version to serve.
        versions: that are asked for in turn.
        load: whose answers say which version is served.
        interval: seconds between two.

    Attributes:
        done: all of them, the latest last.
        only: the version to ask for and no other; empty: each in turn.
    """

    def __init__(
        self, ask: Callable[[str], None], versions: Sequence[str], load: Load, interval: float
    ) -> None:
        self.done: list[Reload] = []
        self._ask, self._load, self._interval = ask, load, interval
        self._versions = itertools.cycle(versions)
        self.only = ""
        self._over, self._now = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reloads:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def now(self) -> Reload:
        """Asks for the next version at once; returns that reload."""
        number = len(self.done)
        self._now.set()
        while len(self.done) == number:
            time.sleep(0.005)
        return self.done[number]

    def _run(self) -> None:
        while not self._over.is_set():
            self._now.clear()
            reload = Reload(self.only or self._other(), time.monotonic())
            self._ask(reload.version)
            self.done.append(reload)
            limit = reload.asked + self._interval
            while time.monotonic() < limit and not (self._now.is_set() or self._over.is_set()):
                if not reload.served and self._load.agrees_on(reload.version, reload.asked):
                    reload.served = time.monotonic()
                time.sleep(0.01)

    def _other(self) -> str:
        """The next version, unless it is served already: then it would prove nothing."""
        return next(each for each in self._versions if not self._load.agrees_on(each, 0.0))
