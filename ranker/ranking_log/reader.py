"""Reads a ranking log: a file, a folder, or a bucket's prefix."""

from __future__ import annotations

import heapq
import logging
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from google.protobuf.message import DecodeError

from ranker.errors import Code, RankerError
from ranker.ranking_log.segment_files import (
    SUFFIX,
    finished,
    first_time,
    is_finished,
    sizes,
)
from ranker.ranking_log.tfrecord import CorruptRecordError, TornRecordError, records
from ranker.repository.place import BUCKETS, local_path, open_place
from ranker.v1 import log_pb2, ranking_pb2

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]
"""Is told the share that is done, from 0 to 1."""


class RankingLogError(RankerError):
    """A ranking log that can't be read; names the file, and says why."""

    code = Code.FAILED_PRECONDITION


@dataclass(frozen=True, eq=False)
class LoggedList:
    """One list of a log.

    Attributes:
        record: as it was written.
        feature_names: the features of the model that ranked it, in its order; empty: it has no
            names.
        file: the name of the file that it is in.
        categories: digests (`Categories.digest`) of what the codes of that model's categorical
            features stand for, by name, where its file says so.
    """

    record: log_pb2.RankingRecord
    feature_names: tuple[str, ...]
    file: str
    categories: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def request(self) -> ranking_pb2.RankRequest:
        """What was asked."""
        return ranking_pb2.RankRequest.FromString(self.record.request)

    @cached_property
    def response(self) -> ranking_pb2.RankResponse:
        """What was answered."""
        return ranking_pb2.RankResponse.FromString(self.record.response)

    @property
    def weight(self) -> float:
        """How many lists it stands for, of which the log has a sample."""
        return 1.0 / (self.record.sample_rate or 1.0)

    @property
    def columns(self) -> Sequence[str]:
        """What the columns of the request's candidates are called; empty: they have no names."""
        request = self.request
        if request.feature_names:
            return list(request.feature_names)
        shared = set(request.context.feature_names)
        return [name for name in self.feature_names if name not in shared]

    def __str__(self) -> str:
        """Which one it is, for a person who looks for it."""
        name = self.request.request_id
        which = f"request {name!r}" if name else "a request without an id"
        return f"{which}, answered at {self.record.time_unix_nanos} ns, in {self.file}"


class RankingLog:
    """A log on this machine; made by `open_log`.

    Args:
        files: its complete files.

    Attributes:
        files: likewise.
        torn: the names of the files that end within a record, as far as they have been read.
        removed: the names of the files that were removed before they could be read, by a server
            that keeps to its bound, say. Later readings lack them, too.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.torn: list[str] = []
        self.removed: list[str] = []

    def lists(self, progress: Progress = lambda _: None) -> Iterator[LoggedList]:
        """All lists, in the order in which they were answered.

        Args:
            progress: is told how far it is.

        Raises:
            RankingLogError: a file can't be read, or was changed since it was written; or all
                were removed.
        """
        total = sum(size for _, size in sizes(self.files)) or 1
        done = 0
        # Files of several workers overlap in time; a file is opened when its time has come.
        waiting = sorted(((_begin(path), path) for path in self.files), reverse=True)
        heap: list[tuple[int, int, LoggedList, Iterator[LoggedList]]] = []
        number = 0
        while waiting or heap:
            while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
                _push(heap, number, self._read(waiting.pop()[1]))
                number += 1
            if not heap:
                continue
            _, which, found, rest = heapq.heappop(heap)
            yield found
            done += len(found.record.request) + len(found.record.response)
            progress(min(1.0, done / total))
            _push(heap, which, rest)
        if self.files and len(self.removed) == len(self.files):
            raise RankingLogError("all files of the ranking log were removed before they were read")
        progress(1.0)

    def _read(self, path: Path) -> Iterator[LoggedList]:
        models: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        try:
            for data in _records(path):
                record = log_pb2.RankingRecord.FromString(data)
                if record.model_sha256 not in models:
                    categories = dict(record.model_categories_sha256)
                    models[record.model_sha256] = tuple(record.model_feature_names), categories
                names, categories = models[record.model_sha256]
                yield LoggedList(record, names, path.name, categories)
        except FileNotFoundError:
            if path.name not in self.removed:
                self.removed.append(path.name)
                logger.warning("%s: it was removed before it was read; the rest is read", path.name)
        except TornRecordError as error:
            self.torn.append(path.name)
            logger.warning(
                "%s: %s: its server or its machine stopped; the rest is read", path.name, error
            )
        except (CorruptRecordError, DecodeError, OSError) as error:
            raise RankingLogError(f"{path.name}: {error}") from error


def in_batches(lists: Iterable[LoggedList], rows: int) -> Iterator[list[LoggedList]]:
    """Lists, so many at a time that they have at least so many candidates together."""
    some: list[LoggedList] = []
    count = 0
    for logged in lists:
        some.append(logged)
        count += logged.request.candidates.rows
        if count >= rows:
            yield some
            some, count = [], 0
    if some:
        yield some


def is_log(address: str) -> bool:
    """Whether an address is that of a log, as far as it can be told without opening it."""
    return address.startswith(BUCKETS) or address.endswith(SUFFIX) or Path(address).is_dir()


@contextmanager
def open_log(address: str, progress: Progress = lambda _: None) -> Iterator[RankingLog]:
    """Opens a log; what is in a bucket is copied to a temporary folder first.

    Args:
        address: a file, a folder, or `gs://BUCKET/PATH` or `s3://BUCKET/PATH`.
        progress: is told how far the copying is.

    Raises:
        RankingLogError: there is no log.
        SourceError: the bucket can't be read.
        MissingExtraError: it is a bucket, and the extra `remote` is not installed.
    """
    if address.startswith(BUCKETS):
        with tempfile.TemporaryDirectory() as folder:
            yield RankingLog(_fetched(address, Path(folder), progress))
        return
    path = local_path(address)
    try:
        files = finished(path) if path.is_dir() else [path.resolve(strict=True)]
    except OSError as error:
        raise RankingLogError(f"{address}: {error.strerror}") from error
    if not files:
        raise RankingLogError(f"{address}: no complete file of a ranking log is in it")
    yield RankingLog(files)


def _fetched(address: str, folder: Path, progress: Progress) -> list[Path]:
    place = open_place(address)
    keys = sorted(key for key in place.list() if is_finished(key.rpartition("/")[2]))
    if not keys:
        raise RankingLogError(f"{address}: no file of a ranking log is in it")
    paths = []
    for key in keys:
        path = folder / key.rpartition("/")[2]
        path.write_bytes(place.read(key, 0, place.size(key)))
        paths.append(path)
        progress(len(paths) / len(keys))
    return paths


def _begin(path: Path) -> int:
    """When a file's first record was answered; of a file that was renamed: always."""
    try:
        return first_time(path.name)
    except ValueError:
        return 0


def _push(
    heap: list[tuple[int, int, LoggedList, Iterator[LoggedList]]],
    number: int,
    lists: Iterator[LoggedList],
) -> None:
    found = next(lists, None)
    if found is not None:
        heapq.heappush(heap, (found.record.time_unix_nanos, number, found, lists))


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from records(content)
