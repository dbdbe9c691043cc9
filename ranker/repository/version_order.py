"""The order of versions, by their names."""

from __future__ import annotations

import re


def by_age(version: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A key that sorts versions from the oldest to the newest, by their names.

    Numbers in a name count as numbers: 9 is before 10, `v9` before `v10`, and
    2026-09-30 before 2026-10-01.
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    key = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return key, version


def next_number(versions: list[str]) -> str:
    """The whole number after the largest among some names; 1 if none is a number."""
    return str(max((int(name) for name in versions if re.fullmatch("[0-9]+", name)), default=0) + 1)
