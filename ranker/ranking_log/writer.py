"""Writes a worker's part of the ranking log, on a thread of its own.

The loop hands over entries and goes on: what the thread can't write in time, or at all, is dropped
and counted. A file is written in pieces of a mebibyte, or what there is twice a second; so much
is lost when the process is killed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from ranker.incident import incident
from ranker.metrics.ranking_log_recorder import RankingLogRecorder
from ranker.ranking_log import segment_files
from ranker.ranking_log.entry import Entry, encoded
from ranker.ranking_log.exclusion import Exclusion, NamelessError, without_explanations
from ranker.ranking_log.segment_files import Segment
from ranker.ranking_log.tfrecord import framed

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 300.0
"""A file is finished when it has so many bytes, or so long after it was begun."""

_BATCH_BYTES = 2**20
_FLUSH_SECONDS = 0.5

_RETRY_SECONDS = 1.0
"""Between two attempts to write, where one has failed."""


class Writer:
    """Writes entries to files in a folder.

    Args:
        folder: where; it is made.
        max_bytes: what all files in the folder may have together, those of other workers too.
        workers: how many processes write there.
        buffer_bytes: what entries may hold that wait.
        exclusion: what to leave out.
        recorder: where is counted what was written and what was not.
        clock: in seconds.
        segment_seconds: after so long a file is finished.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        workers: int,
        buffer_bytes: int,
        exclusion: Exclusion,
        recorder: RankingLogRecorder,
        clock: Callable[[], float] = time.monotonic,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> None:
        self._folder = folder
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // (4 * workers))
        self._most_finished = max_bytes - workers * self._segment_bytes
        self._buffer_bytes = buffer_bytes
        self._exclusion = exclusion
        self._recorder = recorder
        self._clock = clock
        self._segment_seconds = segment_seconds
        self._waiting: deque[Entry] = deque()
        self._added = 0  # bytes; only the loop's thread changes it
        self._taken = 0
        self._taking = Lock()  # whoever takes entries holds it, and not while anything is written
        self._segment: Segment | None = None
        self._began = 0.0
        self._known: set[str] = set()  # digests of the models that the file has records of
        self._failing = False
        self._retry_at = 0.0
        self._closing = False
        self._wake = Event()
        self._thread = Thread(target=self._run, name="ranking-log", daemon=True)

    def start(self) -> None:
        """Starts the thread. Before, entries wait."""
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Has an entry written, if there is room. For the loop's thread alone."""
        size = entry.size
        waiting = self._added - self._taken + size
        if waiting > self._buffer_bytes:
            self._recorder.dropped("busy", 1)
            return
        self._waiting.append(entry)
        self._added += size  # after it is there: the thread takes what is counted
        if waiting > _BATCH_BYTES and not self._wake.is_set():
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Writes what waits and finishes the file; gives up after so many seconds.

        What waits then is counted as dropped. What is being written may still come.
        """
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("the ranking log can't be written in time; what is left of it is lost")
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        with self._taking:
            self._recorder.dropped("disk", len(self._waiting))
            self._taken += sum(entry.size for entry in self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        self._guarded(self._prepare)
        while not self._closing:
            woken = self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            # While there is much to write, what is left of it waits for more: many small writes
            # would take the interpreter away from the loop as often.
            self._guarded(partial(self._step, _BATCH_BYTES if woken else 1))
        while self._added > self._taken:  # each step that fails has counted a batch as dropped
            self._retry_at = 0.0
            self._guarded(partial(self._step, 1))
        self._guarded(self._finish)

    def _guarded(self, what: Callable[[], None]) -> None:
        """Does something; an error neither ends the thread nor is said twice."""
        try:
            what()
        except OSError as error:
            if not self._failing:
                logger.error("the ranking log can't be written: %s; it is tried again", error)
            self._failing = True
            self._retry_at = self._clock() + _RETRY_SECONDS
        except Exception as error:
            incident(logger, "writing the ranking log failed", error)

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._recorder.files("finished", segment_files.adopt(self._folder))
        self._make_room()

    def _step(self, least: int) -> None:
        """Writes what waits, as long as it is so many bytes, and finishes a file that is old."""
        if self._clock() < self._retry_at:
            return
        while self._added - self._taken >= least:
            self._write_batch()
        if self._segment is not None and self._clock() - self._began >= self._segment_seconds:
            self._finish()

    def _write_batch(self) -> None:
        entries: list[Entry] = []
        size = 0
        limit = min(_BATCH_BYTES, self._segment_bytes)
        with self._taking:
            while self._waiting and (not entries or size + self._waiting[0].size <= limit):
                entries.append(self._waiting.popleft())
                size += entries[-1].size
        if not entries:  # there is no time left to write them
            return
        try:
            self._write(entries, size)
        except Exception as error:
            reason = "disk" if isinstance(error, OSError) else "failed"
            self._recorder.dropped(reason, len(entries))
            self._give_up()
            raise
        finally:
            with self._taking:
                self._taken += size

    def _write(self, entries: list[Entry], size: int) -> None:
        if self._segment is not None and self._segment.size + size > self._segment_bytes:
            self._finish()
        if self._segment is None:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._segment = Segment(self._folder, entries[0].time)
            self._began = self._clock()
            self._known = set()
        pieces: list[bytes] = []
        count = 0
        for entry in entries:
            record = self._record(entry)
            if record is not None:
                pieces += framed(record)
                count += 1
        before = self._segment.size
        self._segment.write(pieces)
        self._recorder.written(count, self._segment.size - before)
        if self._failing:
            self._failing = False
            logger.info("the ranking log can be written again")

    def _record(self, entry: Entry) -> list[bytes] | None:
        """An entry's record; None if it may not be logged."""
        origin = entry.origin
        excluded: tuple[str, ...] = ()
        if self._exclusion:
            try:
                request, excluded = self._exclusion.applied(entry.request, origin.feature_names)
            except NamelessError:
                self._recorder.dropped("nameless", 1)
                return None
            if excluded:
                answer = without_explanations(entry.response)
                entry = entry._replace(request=request, response=answer)
        first = origin.digest not in self._known
        self._known.add(origin.digest)
        return encoded(entry, first=first, excluded=excluded)

    def _finish(self) -> None:
        """Completes the file, if there is one."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        segment.finish()
        if segment.size:
            self._recorder.files("finished", 1)
        self._make_room()

    def _give_up(self) -> None:
        """Completes a file that can't be written, if that can be done."""
        try:
            self._finish()
        except OSError as error:
            logger.debug("the file can't be completed either: %s", error)

    def _make_room(self) -> None:
        removed = segment_files.make_room(self._folder, self._most_finished)
        self._recorder.files("removed", removed)
