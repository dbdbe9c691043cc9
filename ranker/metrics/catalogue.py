"""Every metric, declared once: name, kind, unit, labels, buckets, help.

The recorder, the exporters, `docs/reference/metrics.md` and the tests all start from here.

No label value comes from a client. They are fixed here (status codes, reasons),
known when the server starts (models, methods, workers), or facts about the
server in one sample of an info metric.
"""

from __future__ import annotations

from ranker.errors import ANSWERS, Code
from ranker.methods import OPEN_INFERENCE
from ranker.metrics.metric import Across, Dimension, Kind, Metric


def _fixed(label: str, *values: str) -> Dimension:
    return Dimension((label,), tuple((value,) for value in values))


METHOD = Dimension(
    ("method",), rare=frozenset((name.removeprefix("/"),) for name in OPEN_INFERENCE)
)
MODEL = Dimension(("model", "version"))
WORKER = Dimension(("worker",))

CODE = Dimension(
    ("code",),
    values=tuple((code.name,) for code in Code),
    # gRPC itself ends calls with others at times; nobody alerts on a rate of those.
    rare=frozenset((code.name,) for code in Code if code not in ANSWERS),
)
OUTCOME = _fixed("outcome", "ok", "error")
SHED_REASON = _fixed(
    "reason",
    "deadline",
    "queue_rows",
    "queue_bytes",
    "connection_share",
    "draining",
    "calls",
    "memory",
)
EVICTED_REASON = _fixed("reason", "calls", "memory", "unsent", "message")
CLOSED_REASON = _fixed("reason", "headers", "memory", "standstill", "unanswered")
EXPIRED_REASON = _fixed("reason", "deadline", "cancelled")
GENERATION = _fixed("generation", "0", "1", "2")
EXPORTER = Dimension(("exporter",))
EXPORT_OUTCOME = _fixed("outcome", "exported", "failed", "dropped")
ACCESS_LOG_OUTCOME = _fixed("outcome", "written", "capped", "dropped")


# Ten steps a decade (the R10 series), so that a quantile interpolated within a
# bucket is at most a quarter off: a p99 of 2.0 ms and one of 2.5 ms differ.
LATENCY_SECONDS = (
    *(float(f"{step}e-6") for step in (50, 63, 80)),
    *(
        float(f"{step}e{decade}")
        for decade in (-6, -5, -4, -3)
        for step in (100, 125, 160, 200, 250, 315, 400, 500, 630, 800)
    ),
    *(float(step) for step in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5)),
)
SLACK_SECONDS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ROWS = tuple(float(step * 10**decade) for decade in range(5) for step in (1, 2, 5))
BATCH_SIZES = tuple(float(n) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256))

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
REQUEST_DURATION = Metric(
    "ranker_request_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time from a ranking request's arrival to its answer's departure, apart for answers "
    "with a ranking (`ok`) and with an error.",
    by=(MODEL, OUTCOME),
    buckets=LATENCY_SECONDS,
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
SPLIT_REQUESTS = Metric(
    "ranker_split_requests_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests that named no version and got this one by a split of the traffic.",
    by=(MODEL,),
)
SHED = Metric(
    "ranker_requests_shed_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests refused on arrival: the deadline could not be met, the queue was full "
    "in rows or bytes or for this connection, the server was draining, had too many calls in "
    "progress or was short of memory.",
    by=(MODEL, SHED_REASON),
)
EXPIRED = Metric(
    "ranker_requests_expired_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests dropped from the queue: the deadline passed, or the caller went away.",
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
ENGINE_BUSY = Metric(
    "ranker_engine_busy_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a worker's engines spent scoring.",
    by=(WORKER,),
)
ENGINE_UTILIZATION = Metric(
    "ranker_engine_utilization_ratio",
    Kind.GAUGE,
    "1",
    "Fraction of the last ten seconds that the engines spent scoring, averaged over the "
    "workers. Above 1 if several models are scored at once.",
    derived=True,
)
WORKER_WAIT = Metric(
    "ranker_worker_wait_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a worker's loop waited for something to do.",
    by=(WORKER,),
)
WORKER_BUSY = Metric(
    "ranker_worker_busy_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that the work of a worker's loop takes, less what fuller turns would save of it.",
    by=(WORKER,),
)
WORKER_UTILIZATION = Metric(
    "ranker_worker_utilization_ratio",
    Kind.GAUGE,
    "1",
    "Load of the last ten seconds as a fraction of what the workers can do, averaged over them: "
    "the time that the work of their loops takes, or that their engines score, whichever is more. "
    "The signal to scale on.",
    derived=True,
)
MODEL_LOADS = Metric(
    "ranker_model_loads_total",
    Kind.COUNTER,
    "loads",
    "Attempts to load a model, in every worker.",
    by=(MODEL, OUTCOME),
)
MODEL_LOAD_DURATION = Metric(
    "ranker_model_load_duration_seconds",
    Kind.GAUGE,
    "seconds",
    "Time that the last load of a model took, in the slowest worker.",
    by=(MODEL,),
    across=Across.MAX,
)
MODEL_GENERATION = Metric(
    "ranker_model_generation",
    Kind.GAUGE,
    "generations",
    "How many sets of models have been served since the server started, the present one included.",
)
MODEL_SWITCHES = Metric(
    "ranker_model_switches_total",
    Kind.COUNTER,
    "switches",
    "Attempts to serve another set of models.",
    by=(OUTCOME,),
)
MODEL_INFO = Metric(
    "ranker_model_info",
    Kind.INFO,
    "1",
    "A model that is served, and the engine that scores it.",
    by=(MODEL,),
    texts=("engine", "reason", "trees", "depth", "features", "objective", "output"),
)
TRANSPORT_INFO = Metric(
    "ranker_transport_info",
    Kind.INFO,
    "1",
    "The gRPC transport that runs, and why.",
    texts=("transport", "reason"),
)
SIMD_INFO = Metric(
    "ranker_simd_info",
    Kind.INFO,
    "1",
    "The vector instructions that the simd engine uses here (`none` if it can't run), and why.",
    texts=("level", "reason"),
)
GPU_INFO = Metric(
    "ranker_gpu_info",
    Kind.INFO,
    "1",
    "The GPU that the cuda engine uses, by its PCI bus id. Absent where none is used, like all "
    "metrics of the GPU.",
    texts=("pci_bus_id",),
)
GPU_MEMORY_USED = Metric(
    "ranker_gpu_memory_used_bytes",
    Kind.GAUGE,
    "bytes",
    "Memory of that GPU that is in use, by whichever process.",
    derived=True,
)
GPU_MEMORY_TOTAL = Metric(
    "ranker_gpu_memory_total_bytes",
    Kind.GAUGE,
    "bytes",
    "Memory that that GPU has.",
    derived=True,
)
GPU_UTILIZATION = Metric(
    "ranker_gpu_utilization_ratio",
    Kind.GAUGE,
    "1",
    "Fraction of the driver's last sampling period, a second or less, in which that GPU ran "
    "anything, of whichever process.",
    derived=True,
)
BUILD_INFO = Metric(
    "ranker_build_info",
    Kind.INFO,
    "1",
    "The versions that run.",
    texts=("version", "python", "grpcio", "onnxruntime"),
)
WORKERS = Metric(
    "ranker_workers",
    Kind.GAUGE,
    "processes",
    "Worker processes that run.",
)
WORKERS_SERVING = Metric(
    "ranker_workers_serving",
    Kind.GAUGE,
    "processes",
    "Worker processes that serve: they have loaded their models, and do not drain.",
)
WORKER_RESTARTS = Metric(
    "ranker_worker_restarts_total",
    Kind.COUNTER,
    "restarts",
    "Worker processes started in place of one that died.",
)
PROCESS_CPU = Metric(
    "ranker_process_cpu_seconds_total",
    Kind.COUNTER,
    "seconds",
    "User and system CPU time of a process and of those that it replaced.",
    by=(WORKER,),
)
PROCESS_MEMORY = Metric(
    "ranker_process_resident_memory_bytes",
    Kind.GAUGE,
    "bytes",
    "Resident memory.",
    by=(WORKER,),
    derived=True,
)
MEMORY_LIMIT = Metric(
    "ranker_process_memory_limit_bytes",
    Kind.GAUGE,
    "bytes",
    "Resident memory from which on a worker closes connections.",
    by=(WORKER,),
)
PROCESS_FDS = Metric(
    "ranker_process_open_fds",
    Kind.GAUGE,
    "descriptors",
    "Open file descriptors.",
    by=(WORKER,),
    derived=True,
)
PROCESS_START = Metric(
    "ranker_process_start_time_seconds",
    Kind.GAUGE,
    "seconds",
    "When the process started, since the Unix epoch.",
    by=(WORKER,),
    derived=True,
)
GC_COLLECTIONS = Metric(
    "ranker_gc_collections_total",
    Kind.COUNTER,
    "collections",
    "Runs of Python's garbage collector.",
    by=(WORKER, GENERATION),
)
GC_PAUSE = Metric(
    "ranker_gc_pause_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that Python's garbage collector held a worker up.",
    by=(WORKER,),
)
EXPORT_POINTS = Metric(
    "ranker_export_points_total",
    Kind.COUNTER,
    "points",
    "Points that a pushing exporter sent with success, sent in vain, or gave up before sending.",
    by=(EXPORTER, EXPORT_OUTCOME),
)
ACCESS_LOG_LINES = Metric(
    "ranker_access_log_lines_total",
    Kind.COUNTER,
    "lines",
    "Lines of the access log: written; left out since there were too many errors in one second "
    "(`capped`); or lost, since the output does not keep up or can't be written (`dropped`).",
    by=(ACCESS_LOG_OUTCOME,),
)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""All of them, in the order of declaration."""
