"""The settings of a server, with their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ranker.callers import CallerPolicy, as_caller_name

if TYPE_CHECKING:
    from ranker.metrics.exporters import Value
    from ranker.tls import Certificates

DEFAULT_HTTP_PORT = 8080
"""Where HTTP is served if no port is asked for and this one is free."""


@dataclass(frozen=True)
class Settings:
    """How `ranker serve` runs. The command line explains each in its own words.

    Attributes:
        models: paths of ONNX files; the first is the default model. None if `config` says
            what is served.
        config: path or address of the file that says what is served; empty: `models` do.
        model_cache: the folder for models that are fetched; empty: the user's cache.
        host: the address to listen on.
        port: the gRPC port; 0 takes any free one.
        tls_cert: path of the server's certificate; empty: no TLS on the two ports.
        tls_key: path of its key.
        tls_client_ca: path of the authorities that callers need a certificate of; empty: of none.
        allow_caller: the names of those who may call; empty: anybody.
        http_port: the HTTP port; 0 takes any free one, -1 is none, and None is
            `DEFAULT_HTTP_PORT` if that is free.
        workers: processes behind the port.
        worker_addresses: where each of them listens for the office alone; the supervisor
            chooses them.
        engine: one of `ranker.engine.registry.CHOICES`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: threads that may share one large batch.
        transport: one of `ranker.transport.registry.CHOICES`.
        max_batch_rows: the most candidates scored at once, of a model with up to 64 features.
        max_batch_delay: seconds that a batch may wait for company.
        max_queue_rows: the most candidates that may wait.
        max_queue_bytes: the most bytes that waiting requests may hold; 0 is a share of
            `max_memory`: see `ranker.process.memory_budget`.
        max_request_rows: the most candidates in one request.
        max_deadline: the most seconds that a request may take.
        max_memory: bytes that all processes together may hold; 0 is what there is.
        message_timeout: seconds within which a unary call's message has to be there.
        max_connection_age: seconds after which a connection is asked to
            reconnect; 0 is never.
        drain_timeout: seconds that requests in flight have to finish.
        log_format: `auto`, `json` or `text`.
        log_level: a name that `logging` knows.
        access_log: one of `ranker.metrics.access_log.MODES`.
        access_log_rate: the share of the requests that `sampled` logs.
        log_rankings: where lists are logged as they were asked and answered: a folder, or a
            bucket's prefix; empty: nowhere.
        log_rate: the share of the units whose lists are logged.
        log_exclude_feature: features whose values are left out of that log.
        log_max_bytes: the most bytes that its files may have on this machine, if no other server
            writes to the same folder.
        exporters: the options of the exporters, by their names.
        exporter_places: where the exporters are (`ranker.metrics.exporters.exporter_places`); the
            supervisor says it to the others.
        version: the release of this server; likewise.
    """

    models: tuple[str, ...]
    config: str = ""
    model_cache: str = ""
    host: str = "0.0.0.0"
    port: int = 50051
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    allow_caller: tuple[str, ...] = ()
    http_port: int | None = None
    workers: int = 1
    worker_addresses: tuple[str, ...] = ()
    engine: str = "auto"
    device: str = "auto"
    threads: int = 1
    transport: str = "auto"
    max_batch_rows: int = 16384
    max_batch_delay: float = 0.0
    max_queue_rows: int = 100_000
    max_queue_bytes: int = 0
    max_request_rows: int = 10_000
    max_deadline: float = 30.0
    max_memory: int = 0
    message_timeout: float = 30.0
    max_connection_age: float = 0.0
    drain_timeout: float = 25.0
    log_format: str = "auto"
    log_level: str = "INFO"
    access_log: str = "errors"
    access_log_rate: float = 0.01
    log_rankings: str = ""
    log_rate: float = 0.1
    log_exclude_feature: tuple[str, ...] = ()
    log_max_bytes: int = 2**30
    exporters: Mapping[str, Value] = field(default_factory=dict)
    exporter_places: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def gcp_project(self) -> str:
        """The project that traces in the log belong to."""
        return str(self.exporters.get("gcp_project", ""))

    @property
    def trace_rate(self) -> float | None:
        """The share of requests without a trace context that begin a trace; None: no traces."""
        if not self.exporters.get("trace_endpoint", ""):
            return None
        return float(self.exporters["trace_rate"])

    def certificates(self) -> Certificates | None:
        """Reads the certificate and what belongs to it; None: there is to be no TLS.

        Raises:
            ValueError: says which file is wrong, and how.
        """
        if not (self.tls_cert or self.tls_key or self.tls_client_ca):
            return None
        if not (self.tls_cert and self.tls_key):
            raise ValueError("TLS: expected --tls-cert and --tls-key")
        from ranker.tls import Certificates  # with OpenSSL, which most processes have no use for

        return Certificates(self.tls_cert, self.tls_key, self.tls_client_ca)

    def caller_policy(self, configured: CallerPolicy | None = None) -> CallerPolicy:
        """Who may call.

        Args:
            configured: what the configuration's file says of it.

        Raises:
            ValueError: a name is none, or callers have no certificates to be known by.
        """
        own = (as_caller_name(name) for name in self.allow_caller)
        policy = CallerPolicy(tuple(own)).with_others(configured or CallerPolicy())
        if policy.names and not self.tls_client_ca:
            raise ValueError(
                "callers are known by their certificates: expected --tls-client-ca beside the "
                f"callers, the first of which is {policy.names[0]}"
            )
        return policy

    def to_json(self) -> str:
        """For another process; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Reads what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name in ("models", "allow_caller", "worker_addresses", "log_exclude_feature"):
            values[name] = tuple(values[name])
        return cls(**values)
