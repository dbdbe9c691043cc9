"""The server's counters: they never go back, and its answers are those that callers have had."""

from __future__ import annotations

import re
import time
from contextlib import suppress

from benchmarks.harness.scrape import Scrape
from ranker.metrics import catalogue
from tests.chaos.load import Load
from tests.chaos.site import MODEL, Site

_SAMPLE = re.compile(r"(?m)^(\w+(?:_total|_bucket|_count|_sum)(?:\{[^}]*\})?) (\S+)")
_COUNT_SECONDS = 2.0
"""Within which the last answers have been counted."""


class Counters:
    """Looks at a site's counters again and again.

    Attributes:
        wrong: what must not be.
    """

    def __init__(self, site: Site) -> None:
        self.wrong: list[str] = []
        self._site = site
        self._server: object = None
        self._before: dict[str, float] = {}

    def look(self) -> Scrape | None:
        """What they are now, if the server says it."""
        with suppress(OSError):
            scrape = self._site.server.scrape()
            found = {name: float(value) for name, value in _SAMPLE.findall(scrape.text)}
            if self._server is self._site.server:
                self.wrong += gone_back(self._before, found)
            self._server, self._before = self._site.server, found
            return scrape
        return None

    def agree(self, load: Load) -> str:
        """How the answers differ that the server and its callers have counted; empty: not at all.

        The load is paused. The server has counted each answer that callers have had, and, beside
        these, at most the calls that failed or were made anew: an answer may not have got there.
        """
        limit = time.monotonic() + _COUNT_SECONDS
        least = load.codes(self._site.first_call)["OK"]
        most = load.most_answers(self._site.first_call)
        counted: float | None = None
        while time.monotonic() < limit:
            if scrape := self.look():
                counted = scrape.total(catalogue.REQUESTS.name, model=MODEL, code="OK")
                if least <= counted <= most:
                    return ""
            time.sleep(0.05)
        return f"the server has counted {counted} answers, its callers {least} to {most}"


def gone_back(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """Which counters are less than they were, or gone."""
    return [
        f"{name} went from {value:g} to {now.get(name)}"
        for name, value in before.items()
        if now.get(name, -1.0) < value
    ]
