"""Says in the log when a split's shares are not those that were configured."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ranker.metrics.unit_sample import SplitCheck

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often the shares are looked at."""

SUSPECT = 0.001
"""A probability below which chance is no explanation any more."""

HEALED = 0.01
"""Above this one it is again; between the two nothing is said anew."""


class SplitWatch:
    """Warns once for each model, until its shares are near the configured ones again.

    Nothing is said of a model that is no longer served, or whose traffic is no longer split.
    """

    def __init__(self) -> None:
        self._suspect: set[str] = set()

    def look(self, checks: Iterable[SplitCheck]) -> None:
        """Takes what is known of all splits now."""
        suspect, split = set(), set()
        for check in checks:
            split.add(check.model)
            p = check.p_value
            known = check.model in self._suspect
            if p is None or p >= HEALED or (p >= SUSPECT and not known):
                continue
            suspect.add(check.model)
            if not known:
                logger.warning(
                    "%s: its traffic is not split as configured: %s, p = %.1e. Mistrust what is "
                    "compared: some units may be sent elsewhere, or two splits may have the same "
                    "salt",
                    check.model,
                    _shares(check),
                    p,
                )
        for model in sorted((self._suspect - suspect) & split):
            logger.info("%s: nothing speaks against the split of its traffic any more", model)
        self._suspect = suspect


def _shares(check: SplitCheck) -> str:
    """The figures: of so many units how many went where, and how many should have."""
    total = sum(check.units)
    parts = [
        f"version {version} has {count} ({count / total:.1%}, expected {share:.1%})"
        for version, share, count in zip(check.versions, check.shares, check.units, strict=True)
    ]
    return f"of {total} units {', '.join(parts)}"
