"""The labels of metrics, and the values that they may have."""

from __future__ import annotations

from ranker.errors import ANSWERS, Code
from ranker.methods import OPEN_INFERENCE
from ranker.metrics.metric import Dimension


def _fixed(label: str, *values: str) -> Dimension:
    return Dimension((label,), tuple((value,) for value in values))


METHOD = Dimension(
    ("method",), rare=frozenset((name.removeprefix("/"),) for name in OPEN_INFERENCE)
)
MODEL = Dimension(("model", "version"))
FEATURE = Dimension(("feature",))
"""Features of a `MODEL`, by the names that its file gives them; a few of them at a time."""
MODEL_NAME = Dimension(("model",))
WORKER = Dimension(("worker",))
SHADOW = Dimension(("shadow_version",), values=(("",),))
"""Which version is the shadow of a `MODEL`; one at a time, so that it takes no cells of its own."""

CODE = Dimension(
    ("code",),
    values=tuple((code.name,) for code in Code),
    # gRPC itself ends calls with others at times; nobody alerts on a rate of those.
    rare=frozenset((code.name,) for code in Code if code not in ANSWERS),
)
HTTP_STATUS = Dimension(
    ("code",),
    values=tuple(
        (status,)
        for status in (
            *("200", "400", "401", "403", "404", "405", "413", "415", "429", "499"),
            *("500", "501", "503", "504", "other"),
        )
    ),
    rare=frozenset((status,) for status in ("401", "403", "405", "499", "501", "other")),
)
"""Those that the office answers with."""
CALLER = Dimension(("caller",))
"""Those that the operator has named; all others together, and those without a name."""
OUTCOME = _fixed("outcome", "ok", "error")
SHED_REASON = _fixed(
    "reason",
    "deadline",
    "queue_rows",
    "queue_bytes",
    "connection_share",
    "quota",
    "explanations",
    "draining",
    "calls",
    "memory",
)
EVICTED_REASON = _fixed("reason", "calls", "memory", "unsent", "message")
CLOSED_REASON = _fixed("reason", "headers", "memory", "standstill", "unanswered")
EXPIRED_REASON = _fixed("reason", "deadline", "cancelled")
GENERATION = _fixed("generation", "0", "1", "2")
SHADOW_DROPPED_REASON = _fixed("reason", "busy", "memory", "columns", "failed", "stopped")
EXPORTER = Dimension(("exporter",))
EXPORT_OUTCOME = _fixed("outcome", "exported", "failed", "dropped")
ACCESS_LOG_OUTCOME = _fixed("outcome", "written", "capped", "dropped")
RANKING_LOG_DROPPED_REASON = _fixed("reason", "busy", "disk", "nameless", "failed")
RANKING_LOG_OUTCOME = _fixed("outcome", "finished", "removed", "uploaded", "not_uploaded")

MOST_LABELS = 8
"""So many labels of a version are published."""
