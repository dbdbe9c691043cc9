"""The document that describes the JSON API: OpenAPI 3.1, in `openapi.json`."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def text() -> bytes:
    """The document as it is served."""
    return resources.files(__package__).joinpath("openapi.json").read_bytes()


def document() -> dict[str, Any]:
    """The document, read."""
    read: dict[str, Any] = json.loads(text())
    return read
