"""How a protocol writes lists: what `ranker.v1` and the Open Inference Protocol differ in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ranker.engine.api import Scores
from ranker.errors import RankerError
from ranker.serving.generation import Generation
from ranker.serving.task import RankTask


class WireFormat(NamedTuple):
    """The messages of a method that ranks.

    Attributes:
        read: fills a task with what an encoded request asks for, from the models that there are
            and with at most so many candidates; calls `RankTask.on_read` once that is known.
            Raises RankerError.
        write: encodes the answer to a task: its scores are float32 [task.rows].
        write_refusal: encodes, for a stream, why a request has no answer.
    """

    read: Callable[[bytes, RankTask, Generation, int], None]
    write: Callable[[RankTask, Scores], bytes]
    write_refusal: Callable[[RankTask, RankerError], bytes]
