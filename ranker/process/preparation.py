"""One run of the preparer, as the supervisor sees it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ranker.process.child import Child
from ranker.process.link import Message
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted

LIMIT_SECONDS = 300.0
"""A preparer that has not ended by then is taken for one that hangs."""

NICENESS = 10
"""Of a preparer beside workers that serve: it gets a tenth of what each of them gets of a core, so
that requests go first. Set from outside: importing what it needs takes most of its time."""


class ReadModel(NamedTuple):
    """A model that the preparer has told of.

    Attributes:
        key: tells it from every other one: name, version and digest.
        name: on the wire.
        version: on the wire.
        files: its file and what was prepared of it, in memory; none if it was known.
    """

    key: str
    name: str
    version: str
    files: tuple[int, ...]


class Preparation:
    """Has a process read models.

    Args:
        wanted: which.
        known: keys of models that need not be prepared again.
        settings: the server's.

    Attributes:
        wanted: likewise.
        models: those that it has told of so far, in the order in which they are wanted.
        failure: why they can't be had; None as long as nothing went wrong.
        done: whether it is over, well or not.

    Raises:
        OSError: the system has no process to spare.
    """

    def __init__(self, wanted: Wanted, known: Collection[str], settings: Settings) -> None:
        self.wanted = wanted
        self.models: list[ReadModel] = []
        self.failure: str | None = None
        self.done = False
        facts = (wanted.to_facts(), sorted(known))
        arguments = (settings.to_json(), *map(json.dumps, facts))
        self._limit = time.monotonic() + LIMIT_SECONDS
        self._child = Child("ranker.process.preparer", arguments, ())
        if known:
            self._child.set_niceness(NICENESS)

    def look(self) -> None:
        """Takes what the process has said since the last time."""
        if self.done:
            return
        end = self._child.exit()  # first, so that what it said last is heard
        for message in self._child.messages():
            self._take(message)
        if end is not None and not self.done:
            self.done, self.failure = True, f"the process that reads the models ended with {end}"
        elif not self.done and time.monotonic() > self._limit:
            self.done, self.failure = True, f"reading them took more than {LIMIT_SECONDS:.0f} s"

    def close(self) -> None:
        """Ends it, and closes the files of the models that it has told of."""
        self._child.end()
        for model in self.models:
            for fd in model.files:
                os.close(fd)
        self.models.clear()

    def _take(self, message: Message) -> None:
        facts: Mapping[str, str] = message.facts
        if "model" in facts:
            key, name, version = facts["model"], facts["name"], facts["version"]
            self.models.append(ReadModel(key, name, version, tuple(message.files)))
        else:
            self.done = True
            self.failure = facts.get("failed")
