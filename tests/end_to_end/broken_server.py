"""The `ranker` command with bugs: `request_id` says where a request meets one, and `BROKEN` too."""

from __future__ import annotations

import logging
import threading
import time

from ranker.cli.main import main
from ranker.transport import environment

logger = logging.getLogger(__name__)

BROKEN = 12345.5
"""A first feature that breaks the engine."""

LOST = 54321.5
"""A first feature that breaks the engine for good."""

STUCK = 77777.5
"""A first feature at which the engine never comes back."""

LARGE = 200
"""A batch of a block with so many rows takes long enough for the engine's own thread."""


def break_it() -> None:
    import ranker.model.model
    import ranker.serving.task

    load, read = ranker.model.model.Model.load, ranker.serving.task.read_candidates
    write = ranker.serving.task.write_response

    from ranker.engine.api import EngineLostError

    def load_broken(*arguments):
        model = load(*arguments)
        score = model.engine.score

        class Engine:
            name = model.engine.name
            num_features = model.engine.num_features
            batches_at_once = 1
            gpu = ""

            def score(self, blocks):
                if any(len(block) >= LARGE for block in blocks):
                    time.sleep(0.05)
                if any(block[0, 0] == STUCK for block in blocks):
                    logger.info("the engine is stuck")
                    threading.Event().wait()
                if any(block[0, 0] == BROKEN for block in blocks):
                    raise RuntimeError("a bug")
                if any(block[0, 0] == LOST for block in blocks):
                    raise EngineLostError("a GPU that fell off the bus")
                return score(blocks)

        model.engine = Engine()
        return model

    def read_broken(request, *arguments):
        if request.request_id == "reading":
            raise RuntimeError("a bug")
        return read(request, *arguments)

    def write_broken(request, *arguments):
        if request.request_id == "answering":
            raise RuntimeError("a bug")
        return write(request, *arguments)

    ranker.model.model.Model.load = load_broken
    ranker.serving.task.read_candidates = read_broken
    ranker.serving.task.write_response = write_broken


if __name__ == "__main__":
    prepare = environment.prepare

    def prepare_and_break() -> None:
        prepare()  # comes before anything imports gRPC
        break_it()

    environment.prepare = prepare_and_break
    main()
