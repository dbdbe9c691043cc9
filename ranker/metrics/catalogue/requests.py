"""Metrics of what callers ask, from their calls to the batches that their lists are in."""

from __future__ import annotations

from ranker.metrics.catalogue.buckets import BATCH_SIZES, LATENCY_SECONDS, ROWS, SLACK_SECONDS
from ranker.metrics.catalogue.labels import (
    CALLER,
    CLOSED_REASON,
    CODE,
    EVICTED_REASON,
    EXPIRED_REASON,
    METHOD,
    MODEL,
    OUTCOME,
    SHED_REASON,
)
from ranker.metrics.metric import Kind, Metric

RPCS = Metric(
    "ranker_rpcs_total",
    Kind.COUNTER,
    "RPCs",
    "RPCs that ended, of every method; a method that the server does not have is `unknown`. "
    "Those of the Open Inference Protocol are told once there is one. "
    "A call that gRPC itself refuses, since its message is too large, counts as `CANCELLED`.",
    by=(METHOD, CODE),
)
RPCS_IN_FLIGHT = Metric(
    "ranker_rpcs_in_flight",
    Kind.GAUGE,
    "RPCs",
    "RPCs that have arrived and not ended.",
)
RPCS_EVICTED = Metric(
    "ranker_rpcs_evicted_total",
    Kind.COUNTER,
    "RPCs",
    "RPCs that the server ended: to make room, those that had stood still longest (`calls` in "
    "progress, `memory`, `unsent` answers), or since their `message` did not come in time.",
    by=(EVICTED_REASON,),
)
CONNECTIONS_CLOSED = Metric(
    "ranker_connections_closed_total",
    Kind.COUNTER,
    "connections",
    "Connections that the server closed: their `headers` were too large, `memory` was short, "
    "what they sent brought the server to a `standstill`, or, soon after one of these, they sent "
    "on while `unanswered`.",
    by=(CLOSED_REASON,),
)
REQUESTS = Metric(
    "ranker_requests_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests that ended, by their own status: each unary call is one, and each "
    "message of a stream. The model is `unknown` if the request names none that is served, "
    "or was not read.",
    by=(MODEL, CODE),
)
CALLER_REQUESTS = Metric(
    "ranker_caller_requests_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests that ended, by who asked: a caller that `--allow-caller` or the "
    "configuration names, `other` or, without a name, `none`. Only where callers are named.",
    by=(CALLER, CODE),
)
CALLER_TAKEN = Metric(
    "ranker_caller_taken_requests_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests that count against the quotas of callers: all that were read and were within "
    "the quota. Callers without a quota take none.",
    by=(CALLER,),
)
CALLER_CANDIDATES = Metric(
    "ranker_caller_taken_candidates_total",
    Kind.COUNTER,
    "candidates",
    "Candidates in the requests that count against quotas.",
    by=(CALLER,),
)
REQUEST_DURATION = Metric(
    "ranker_request_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time from a ranking request's arrival to its answer's departure, apart for answers "
    "with a ranking (`ok`) and with an error.",
    by=(MODEL, OUTCOME),
    buckets=LATENCY_SECONDS,
    from_zero=True,  # the alerts divide it by `REQUESTS`
    exemplars=True,
)
REQUEST_CANDIDATES = Metric(
    "ranker_request_candidates",
    Kind.HISTOGRAM,
    "candidates",
    "Candidates in a ranking request, unless it was refused before they could be read.",
    by=(MODEL,),
    buckets=ROWS,
)
DEADLINE_SLACK = Metric(
    "ranker_request_deadline_slack_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time left to the caller's deadline when a ranking request arrives; 0 if it has passed.",
    by=(MODEL,),
    buckets=SLACK_SECONDS,
)
NO_DEADLINE = Metric(
    "ranker_requests_without_deadline_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests without a deadline.",
    by=(MODEL,),
)
SHED = Metric(
    "ranker_requests_shed_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests refused on arrival: the deadline could not be met, the queue was full "
    "in rows or bytes or for this connection, the caller was over its `quota`, too many lists "
    "waited to be explained (`explanations`), the server was draining, had too many calls in "
    "progress or was short of memory.",
    by=(MODEL, SHED_REASON),
)
EXPIRED = Metric(
    "ranker_requests_expired_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests dropped while they waited to be scored or explained: the deadline passed, or "
    "the caller went away.",
    by=(MODEL, EXPIRED_REASON),
)
QUEUE_ROWS = Metric(
    "ranker_queue_rows",
    Kind.GAUGE,
    "rows",
    "Candidates waiting to be scored.",
)
QUEUE_DURATION = Metric(
    "ranker_queue_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time that a request waited for its batch.",
    by=(MODEL,),
    buckets=LATENCY_SECONDS,
)
SCORING_DURATION = Metric(
    "ranker_scoring_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time that the engine took to score a batch.",
    by=(MODEL,),
    buckets=LATENCY_SECONDS,
)
CANDIDATES_SCORED = Metric(
    "ranker_candidates_scored_total",
    Kind.COUNTER,
    "candidates",
    "Candidates that the engine scored.",
    by=(MODEL,),
)
BATCH_ROWS = Metric(
    "ranker_batch_rows",
    Kind.HISTOGRAM,
    "rows",
    "Candidates scored in a batch.",
    by=(MODEL,),
    buckets=ROWS,
)
BATCH_REQUESTS = Metric(
    "ranker_batch_requests",
    Kind.HISTOGRAM,
    "requests",
    "Requests scored in a batch.",
    by=(MODEL,),
    buckets=BATCH_SIZES,
)
CANDIDATES_EXPLAINED = Metric(
    "ranker_candidates_explained_total",
    Kind.COUNTER,
    "candidates",
    "Candidates whose scores were explained.",
    by=(MODEL,),
)
EXPLANATION_DURATION = Metric(
    "ranker_explanation_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time from a list's scores to its explanations: it waits until plain lists leave time.",
    by=(MODEL,),
    buckets=LATENCY_SECONDS,
)
EXPLANATION_ROWS = Metric(
    "ranker_explanation_rows",
    Kind.GAUGE,
    "rows",
    "Candidates that are to be explained, of requests that have not been answered yet.",
)
