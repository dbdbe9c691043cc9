"""`ranker serve` on given cores, and what it says of itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grpc

from benchmarks.pinned import PinnedServer
from loadtests.scrape import Scrape
from ranker.metrics import catalogue as catalog

PORTS = ("--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--log-format", "text")


class RankerServer(PinnedServer):
    """Serves a model on free ports of the loopback interface.

    Args:
        cores: the core, or cores, to pin it to.
        model: the ONNX file.
        options: more of `ranker serve`.
    """

    def __init__(self, cores: int | set[int], model: Path, *options: str) -> None:
        super().__init__(cores, "-m", "ranker", "serve", str(model), *PORTS, *options)
        port = self.logged(r"metrics on port (\d+)")
        self._metrics = f"http://127.0.0.1:{port}/metrics"

    def scrape(self) -> Scrape:
        """Its metrics."""
        return Scrape.of(self._metrics)

    def codes(self) -> Counter[str]:
        """How many requests have ended with which gRPC status so far; no others."""
        scrape = self.scrape()
        codes = [code.name for code in grpc.StatusCode]
        return +Counter(
            {each: int(scrape.total(catalog.REQUESTS.name, code=each)) for each in codes}
        )
