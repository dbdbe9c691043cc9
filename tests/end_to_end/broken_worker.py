"""A worker with bugs: `request_id` says where a request meets one, and its first feature too.

If the file that BROKEN_START names exists, the worker can't load its model. The first worker
that finds the file that STOPPED_START names stops like one that waits for a lock for ever.
A worker dies of the version that DEADLY_VERSION names as it loads it, and loads nothing while the
file is there that SLOW_START names.
LONGEST_BATCH is how many seconds a batch may take, and SHORT_SECONDS for how long memory may be
short.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from ranker.engine.api import Engine, EngineLostError
from ranker.errors import ModelError
from ranker.process import generations, server, worker
from ranker.serving import dispatcher, services
from tests.end_to_end.broken_server import BROKEN, LARGE, LEAK, LOST, SLOW, STUCK, STUCK_ON_LOOP

logger = logging.getLogger(__name__)


leaked: list[bytes] = []


class BrokenEngine(Engine):
    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.num_features = engine.num_features
        self._score = engine.score

    def score(self, blocks):
        if any(len(block) >= LARGE or block[0, 0] == SLOW for block in blocks):
            time.sleep(0.05)
        if any(block[0, 0] == LEAK for block in blocks):
            leaked.append(b"x" * 100 * 2**20)
        if any(block[0, 0] in (STUCK, STUCK_ON_LOOP) for block in blocks):
            logger.info("the engine is stuck")
            threading.Event().wait()
        if any(block[0, 0] == BROKEN for block in blocks):
            raise RuntimeError("a bug")
        if any(block[0, 0] == LOST for block in blocks):
            raise EngineLostError("a GPU that fell off the bus")
        return self._score(blocks)


def break_it() -> None:
    load, wire = generations.take_over, services.RANK

    def load_broken(*arguments):
        if os.path.exists(os.environ.get("BROKEN_START", "")):
            raise ModelError("books@7: it is broken today")
        if "STOPPED_START" in os.environ:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.environ["STOPPED_START"])
                os.kill(os.getpid(), signal.SIGSTOP)
        while os.path.exists(os.environ.get("SLOW_START", "")):
            time.sleep(0.01)
        if arguments[0].version == os.environ.get("DEADLY_VERSION"):
            os.kill(os.getpid(), signal.SIGKILL)
        model = load(*arguments)
        model.engine = BrokenEngine(model.engine)
        return model

    def read_broken(data, task, *arguments):
        wire.read(data, task, *arguments)
        if task.request_id == "reading":
            raise RuntimeError("a bug")

    def write_broken(task, scores):
        if task.request_id == "answering":
            raise RuntimeError("a bug")
        return wire.write(task, scores)

    seconds = float(os.environ.get("LONGEST_BATCH", dispatcher.LONGEST_BATCH_SECONDS))
    dispatcher.LONGEST_BATCH_SECONDS = seconds
    server._SHORT_SECONDS = float(os.environ.get("SHORT_SECONDS", server._SHORT_SECONDS))
    generations.take_over = load_broken
    services.RANK = wire._replace(read=read_broken, write=write_broken)


def main() -> None:
    break_it()
    worker.main()
