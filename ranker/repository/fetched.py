"""A model that a repository has given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fetched:
    """A version's model, on this machine.

    Attributes:
        path: its file.
        sha256: of its bytes, in hexadecimal: what lies there later may be another model.
    """

    path: Path
    sha256: str
