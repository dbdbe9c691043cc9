"""Watches a configuration and the sources that it names, and says what is to be served to whom."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ranker.callers import CallerPolicy
from ranker.errors import RankerError
from ranker.repository.config import Config
from ranker.repository.config_doubts import doubts
from ranker.repository.config_place import load_config, open_config
from ranker.repository.resolver import Resolver
from ranker.repository.wanted import Wanted

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""How often the file is looked at."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds before what went wrong is tried again; doubled each time."""


class ConfigWatch:
    """Says what is wanted: at first, when the file changes, and when a source has something new.

    Whatever goes wrong is logged, and tried again.

    Args:
        address: the configuration: a path, or one in a bucket, which is looked at each time that
            the sources are.
        cache: the folder for what is fetched; empty: see `open_repository`.
        let_in: is called with who may call, as soon as the configuration was read: no source, which
            may fail, is asked before.
        want: is called with what is wanted. Like `let_in` it is called from the watch's thread, and
            may get the same again.
        fail: is called with why that can't be said, each time that it was tried.

    Raises:
        SourceError: there can't be a configuration at that address.
        MissingExtraError: it is in a bucket, and the extra `remote` is not installed.
    """

    def __init__(
        self,
        address: str,
        cache: str,
        let_in: Callable[[CallerPolicy], None],
        want: Callable[[Wanted], None],
        fail: Callable[[str], None],
    ) -> None:
        folder = Path(cache) if cache else None
        self._place = open_config(address, folder)
        self._let_in = let_in
        self._want = want
        self._fail = fail
        self._failure = ""
        self._doubts: list[str] = []
        self._resolver = Resolver(self._place.base, folder)
        self._again = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-watch", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def reload(self) -> None:
        """Has everything looked at now. Call it from any thread."""
        self._again.set()

    def close(self) -> None:
        """Ends the thread, unless it waits for a source."""
        self._over.set()
        self._again.set()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._over.is_set():
            seen = self._place.stamp()
            began = time.monotonic()
            try:
                config = load_config(self._place)
                self._let_in(config.policy())
                self._tell_doubts(config)
                wanted = self._resolver.resolve(config)
                self._want(wanted)
                if wanted.failure:
                    self._log(f"a part of what is served stays as it is: {wanted.failure}")
                    wait, pause = min(pause, config.poll_seconds), min(2 * pause, LONGEST_PAUSE)
                else:
                    self._failure = ""
                    pause, wait = FIRST_PAUSE, config.poll_seconds
            except Exception as error:  # a bug, even: nothing else follows the configuration
                self._tell(error)
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE)
            self._wait(seen, began + wait)

    def _tell(self, error: Exception) -> None:
        """Says what is wrong; the log, only if it did not say so before."""
        expected = isinstance(error, RankerError)
        failure = str(error) if expected else f"{type(error).__name__}: {error}"
        self._log(f"what is served stays as it is: {failure}", None if expected else error)
        self._fail(failure)

    def _log(self, failure: str, traceback: Exception | None = None) -> None:
        if failure != self._failure:
            self._failure = failure
            logger.error("%s", failure, exc_info=traceback)

    def _tell_doubts(self, config: Config) -> None:
        """Has the log say what is doubtful, if it did not say so before."""
        before, self._doubts = self._doubts, list(doubts(config))
        for doubt in self._doubts:
            if doubt not in before:
                logger.warning("%s", doubt)

    def _wait(self, seen: object, until: float) -> None:
        """Waits until the file changes, somebody asks, or that time."""
        while time.monotonic() < until and self._place.stamp() == seen:
            if self._again.wait(LOOK_SECONDS):
                self._again.clear()
                return
