"""The preparer: a process that reads models once, for all workers.

    python -m ranker.process.program ranker.process.preparer LINK SETTINGS

LINK is the inherited connection to the supervisor, SETTINGS are JSON (`ranker.process.settings`).
The supervisor says `{"read": WANTED, "known": [...]}` (`ranker.repository.wanted`), with the models
that are there: `NAME@VERSION@SHA256`. Of each wanted model the preparer says, in their order, which
it is; of those that are not known with two memory files, the model's own and what was prepared of
it (`ranker.model.packed`). Then it is `ready` for more, or it has `failed`: a model can't be read.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ranker import logs
from ranker.errors import ModelError, RankerError
from ranker.incident import incident
from ranker.memory_file import read_into_memory
from ranker.model import ModelFile
from ranker.model.model import errors_named
from ranker.model.packed import Packed, prepare
from ranker.process.heap import return_free_memory
from ranker.process.link import Link
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted, WantedModel

logger = logging.getLogger(__name__)

MAX_MODEL_BYTES = 2**31 - 1
"""Protobuf's own limit on one message, which an ONNX file is."""

MAX_SAID = 200
"""The most characters that are told of an error that nobody has thought of."""


def main() -> None:
    """The program."""
    link = Link(int(sys.argv[1]))
    settings = Settings.from_json(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGHUP):  # for the supervisor alone
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor's own is inherited
    logs.configure(settings.log_format, settings.log_level, "preparer", settings.gcp_project)
    wishes: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
    link.listen(lambda message: wishes.put(message.facts))
    while True:
        wish = wishes.get()
        _read_models(Wanted.from_facts(wish["read"]), set(wish["known"]), settings, link)
        return_free_memory()


def _read_models(wanted: Wanted, known: set[str], settings: Settings, link: Link) -> None:
    try:
        prepared = []
        for model in wanted.models:
            with _bugs_named(Path(model.path).name):
                prepared.append(_prepare(model, settings, known, link))
        if settings.log_rankings and settings.log_exclude_feature:
            _check_exclusion(settings, [each for each in prepared if each], starting=not known)
    except (RankerError, OSError, ValueError, MemoryError) as error:
        link.failed(str(error) or type(error).__name__)
    else:
        link.ready({})


@contextmanager
def _bugs_named(filename: str) -> Iterator[None]:
    """Has errors that nobody has thought of say which file was read, and not end the process.

    The log gets their traceback.
    """
    try:
        yield
    except RankerError:
        raise  # names the file already
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:MAX_SAID]}".removesuffix(": ")
        raise ModelError(incident(logger, f"{filename}: can't be read: {said}", error)) from error


def _prepare(wanted: WantedModel, settings: Settings, known: set[str], link: Link) -> Packed | None:
    """Says which model it is, with the files that a worker needs of it; None: it is known."""
    began = time.monotonic()
    prepared = None
    if (key := f"{wanted.name}@{wanted.version}@{wanted.sha256}") in known:
        # Unread: it may lie there no more, and what is served needs no file.
        link.say({"model": key, "name": wanted.name, "version": wanted.version})
        return None
    file_fd = _read(wanted.path)
    with errors_named(Path(wanted.path).name):
        file = ModelFile.inherited(file_fd, wanted.path)
        if wanted.sha256 not in ("", file.digest):
            raise ModelError(
                f"it has changed since it was found: expected sha256 {wanted.sha256}, "
                f"got {file.digest}"
            )
        name, version = wanted.name or file.name, wanted.version or file.version
        facts = {"model": f"{name}@{version}@{file.digest}", "name": name, "version": version}
        if facts["model"] in known:
            link.say(facts)
        else:
            packed = prepare(file, settings.engine, settings.device, name, version)
            packed_fd = packed.write()
            seconds = time.monotonic() - began
            _log(wanted, packed, seconds)
            link.say({**facts, "seconds": seconds}, [file_fd, packed_fd])
            os.close(packed_fd)
            prepared = packed
    os.close(file_fd)
    return prepared


def _check_exclusion(settings: Settings, models: list[Packed], *, starting: bool) -> None:
    """Looks whether models have the features that are not to be logged.

    Later than at the start it does not matter to the callers: what is logged is safe in any case.

    Raises:
        UnknownFeatureError: at the start, if no model has one of them.
    """
    from ranker.ranking_log.exclusion import Exclusion  # few servers have use for it

    exclusion = Exclusion(settings.log_exclude_feature)
    names = {f"{each.name}@{each.version}": each.metadata.feature_names for each in models}
    if starting:
        exclusion.check(names)
    for name, features in names.items():
        exclusion.warn(name, features)


def _log(wanted: WantedModel, packed: Packed, seconds: float) -> None:
    logger.info(
        "read %s as %s@%s in %.2f s: %d trees, sha256 %s",
        wanted.path,
        packed.name,
        packed.version,
        seconds,
        packed.metadata.trees,
        packed.digest[:16],
    )


def _read(path: str) -> int:
    """Reads a model's file into memory; returns the copy's descriptor."""
    try:
        return read_into_memory(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{Path(path).name}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{Path(path).name}: {error}") from error
