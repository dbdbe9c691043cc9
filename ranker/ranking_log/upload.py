"""Takes the complete files of a ranking log to a bucket, on a thread of the office."""

from __future__ import annotations

import logging
import mmap
import os
import time
from pathlib import Path
from threading import Event, Thread

from ranker.errors import RankerError
from ranker.incident import incident
from ranker.metrics.ranking_log_recorder import RankingLogRecorder
from ranker.ranking_log import segment_files
from ranker.repository.place import Place

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""Between two looks for complete files."""

_RETRY_SECONDS = 30.0
"""After a failure nothing is tried for so long."""

_CLOSING_SECONDS = 8.0
"""What there is for the last files when the server ends; others stay for the next server."""


class Uploader:
    """Uploads files and removes them here.

    Several servers on one machine may upload the same folder: a file's name is its own, and a
    place writes nothing over.

    Args:
        folder: where workers write.
        place: the bucket.
        recorder: where is counted what was uploaded.
    """

    def __init__(self, folder: Path, place: Place, recorder: RankingLogRecorder) -> None:
        self._folder = folder
        self._place = place
        self._recorder = recorder
        self._failing = False
        self._stop = Event()
        self._thread = Thread(target=self._run, name="ranking-log-upload", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Uploads what there is, as far as that is quick."""
        self._stop.set()
        self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._stop.wait(pause):
            pause = _LOOK_SECONDS if self._upload_all() else _RETRY_SECONDS
        if self._folder.is_dir():
            self._recorder.files("finished", segment_files.adopt(self._folder))
        self._upload_all()

    def _upload_all(self) -> bool:
        """Uploads all complete files, the oldest first; whether that could be done."""
        done, uploaded = True, False
        try:
            for path in segment_files.finished(self._folder) if self._folder.is_dir() else ():
                try:
                    self._upload(path)
                    uploaded = True
                except OSError as error:  # this file can't be read; others may
                    self._tell(error)
                    done = False
        except RankerError as error:
            self._tell(error)
            return False
        except Exception as error:
            incident(logger, "uploading the ranking log failed", error)
            return False
        if done and uploaded and self._failing:
            self._failing = False
            logger.info("the ranking log is uploaded again")
        return done

    def _tell(self, error: Exception) -> None:
        self._recorder.files("not_uploaded", 1)
        if not self._failing:
            logger.error("the ranking log can't be uploaded: %s; it is tried again", error)
        self._failing = True

    def _upload(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                began = time.monotonic()
                if not os.fstat(file.fileno()).st_size:
                    # The machine stopped before what was written reached the disk.
                    logger.warning("%s is empty and is removed: its records are lost", path)
                    path.unlink(missing_ok=True)
                    return
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                try:
                    self._place.create(path.name, content)
                except FileExistsError:
                    logger.debug("%s is in the bucket already", path.name)
                size = len(content)
        except FileNotFoundError:  # removed for room, or another server was faster
            return
        path.unlink(missing_ok=True)
        self._recorder.files("uploaded", 1)
        logger.debug("%s: %d bytes uploaded in %.1f s", path.name, size, time.monotonic() - began)
