"""Metrics of the processes and the machine, and of what they write."""

from __future__ import annotations

from ranker.metrics.catalogue.labels import (
    ACCESS_LOG_OUTCOME,
    EXPORT_OUTCOME,
    EXPORTER,
    GENERATION,
    HTTP_STATUS,
    RANKING_LOG_DROPPED_REASON,
    RANKING_LOG_OUTCOME,
    WORKER,
)
from ranker.metrics.metric import Kind, Metric

ENGINE_BUSY = Metric(
    "ranker_engine_busy_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a worker's engines spent scoring.",
    by=(WORKER,),
)
ENGINE_LOAD = Metric(
    "ranker_engine_load_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a worker's engines spent scoring, less what larger batches would save of it.",
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
    "the time that the work of their loops takes, or that of their engines, whichever is more. "
    "The signal to scale on.",
    derived=True,
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
HTTP_RESPONSES = Metric(
    "ranker_http_responses_total",
    Kind.COUNTER,
    "responses",
    "Responses of the office over HTTP, on whichever port: rankings in JSON, pages, scrapes and "
    "probes, and all that is refused, also what no worker hears of.",
    by=(HTTP_STATUS,),
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
TRACE_SPANS = Metric(
    "ranker_trace_spans_total",
    Kind.COUNTER,
    "spans",
    "Spans of traced requests that were sent to the collector with success, were refused by it or "
    "could not be sent (`failed`), or had no room to wait for it (`dropped`).",
    by=(EXPORT_OUTCOME,),
)
RANKING_LOG_RECORDS = Metric(
    "ranker_ranking_log_records_total",
    Kind.COUNTER,
    "records",
    "Lists that were written to the ranking log.",
)
RANKING_LOG_BYTES = Metric(
    "ranker_ranking_log_written_bytes_total",
    Kind.COUNTER,
    "bytes",
    "What was written to the ranking log.",
)
RANKING_LOG_DROPPED = Metric(
    "ranker_ranking_log_dropped_total",
    Kind.COUNTER,
    "records",
    "Lists that were to be logged and were not: the disk did not keep up (`busy`) or could not be "
    "written (`disk`), features are excluded and the model does not name its own (`nameless`), or "
    "there is a bug (`failed`).",
    by=(RANKING_LOG_DROPPED_REASON,),
)
RANKING_LOG_FILES = Metric(
    "ranker_ranking_log_files_total",
    Kind.COUNTER,
    "files",
    "Files of the ranking log: completed (`finished`), `removed` to keep to the bytes on disk, "
    "`uploaded` to the bucket, or `not_uploaded` by an attempt that is repeated.",
    by=(RANKING_LOG_OUTCOME,),
)
