"""What a server should serve and does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranker.v1 import ranking_pb2 as pb


@dataclass(frozen=True)
class Unserved:
    """What is wanted beside the generation that is served.

    Attributes:
        models: versions that are wanted and not served, and what became of them.
        failure: why what is wanted can't be served; empty: nothing speaks against it.
    """

    models: Sequence[pb.Model] = ()
    failure: str = ""
