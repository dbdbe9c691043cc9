"""The preparer, as the supervisor sees it: has models read, in a process of their own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ranker.process.child import Child
from ranker.process.link import Message
from ranker.process.machine import is_busy
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted

logger = logging.getLogger(__name__)

LIMIT_SECONDS = 300.0
"""A preparer that has not read its models by then is taken for one that hangs."""

STARVED_SECONDS = 2.0
"""Beside workers that serve a preparer is idle (`Child.set_idle`), unless the machine is busy. One
that had to wait for a core for so long in all is replaced by one that is only nice."""

NICENESS = 10
"""Of the latter: it gets a tenth of what each worker gets of a core."""

KEEP_SECONDS = 60.0
"""How long a preparer without work stays for models that may follow. Its imports take ten times the
CPU time that 500 trees do, and requests beside it feel that; but with one that is kept for ever, a
small server holds a third more memory, be it for a change a day."""


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


class ModelReader:
    """Has a process read models, and keeps it for the next ones for a while.

    Args:
        settings: the server's.

    Attributes:
        reading: whether it is about to.
        wanted: what it reads, or has read last.
        models: those that the process has told of so far, in the order in which they are wanted.
            Who takes their files takes them out.
        failure: why they can't be had; None as long as nothing went wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.reading = False
        self.wanted = Wanted(())
        self.models: list[ReadModel] = []
        self.failure: str | None = None
        self._settings = settings
        self._child: Child | None = None
        self._wish: Mapping[str, Any] = {}
        self._read = False
        self._beside = False  # workers that serve
        self._idle = False
        self._waited = 0.0  # for a core, before what it reads now
        self._until = 0.0  # it is to have read by then; or, without work, it ends then

    def begin(self, wanted: Wanted, known: Collection[str]) -> None:
        """Has models read, in place of those that it still reads.

        Args:
            wanted: which.
            known: keys of models that need not be prepared again, since workers serve them.
        """
        self.abandon()
        if self._child is not None and self._child.exit() is not None:
            self._end_child()
        self.wanted, self._wish = wanted, {"read": wanted.to_facts(), "known": sorted(known)}
        self._begin(beside=bool(known), idle=bool(known) and not is_busy())

    def look(self) -> bool:
        """Takes what the process has said since the last time.

        Returns:
            Whether it has just come to its end with what it was to read, be it by a `failure`.
        """
        if not self.reading:
            if time.monotonic() > self._until:
                self._end_child()
            return False
        if self._child is not None:
            self._hear(self._child)
        if not self._read and self.failure is None:
            return False
        self.reading = False
        self._until = time.monotonic() + KEEP_SECONDS
        if self.failure is not None or not self._beside:
            self._end_child()
        return True

    def abandon(self) -> None:
        """Leaves what it still reads unread, and closes the files of what nobody has taken."""
        if self.reading:
            self._end_child()
        self.reading = False
        self._drop_models()

    def close(self) -> None:
        """Ends the process as well."""
        self.abandon()
        self._end_child()

    def _begin(self, *, beside: bool, idle: bool) -> None:
        self.reading = True
        self._read, self.failure = False, None
        self._until = time.monotonic() + LIMIT_SECONDS
        if self._child is None:
            try:
                self._child = Child("ranker.process.preparer", (self._settings.to_json(),), ())
            except OSError as error:
                self.failure = f"there is no process to read the models: {error.strerror}"
                return
            self._beside = beside
            self._idle = idle and self._child.set_idle()
            if beside and not self._idle:
                self._child.set_niceness(NICENESS)
        self._waited = self._child.seconds_without_core()
        self._child.say(self._wish)

    def _hear(self, child: Child) -> None:
        child.flush()
        end = child.exit()  # first, so that what it said last is heard
        for message in child.messages():
            self._take(message)
        if self._read or self.failure is not None:
            return
        if end is not None:
            self.failure = f"the process that reads the models ended with {end}"
        elif time.monotonic() > self._until:
            self.failure = f"reading them took more than {LIMIT_SECONDS:.0f} s"
        elif self._idle and child.seconds_without_core() - self._waited > STARVED_SECONDS:
            logger.info(
                "no core is idle long enough to read the models: reading them beside requests"
            )
            self._end_child()
            self._drop_models()
            self._begin(beside=True, idle=False)

    def _take(self, message: Message) -> None:
        facts: Mapping[str, str] = message.facts
        if "model" in facts:
            key, name, version = facts["model"], facts["name"], facts["version"]
            self.models.append(ReadModel(key, name, version, tuple(message.files)))
        else:
            self._read = "ready" in facts
            self.failure = facts.get("failed")

    def _drop_models(self) -> None:
        for model in self.models:
            for fd in model.files:
                os.close(fd)
        self.models.clear()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
