"""The office: the process that does all that is slow, so that no request waits for it.

    python -m ranker.process.program ranker.process.office LINK SETTINGS METRICS ACCESS_LOG \
        WORKERS_END

It speaks HTTP, runs the exporters of metrics and traces, writes the access log, and watches the
configuration that says what is served, if there is one. It may die and come back: what was
counted is in the metrics' file, which it only reads. LINK, METRICS, ACCESS_LOG and WORKERS_END
are inherited descriptors, of the connection to the supervisor, of that file, and of both ends of
the connection that the access log comes on; SETTINGS is JSON.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from ranker import logs
from ranker.callers import CallerPolicy
from ranker.errors import ConfigError, RankerError
from ranker.metrics.access_log_writer import AccessLogWriter, Traced
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.drift import Drift
from ranker.metrics.exporters import Page, load_exporters
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.reader import Reader
from ranker.metrics.snapshot import snapshot
from ranker.office.api import Api
from ranker.office.app import HEALTH_PATHS, application, health_routes, page_routes
from ranker.office.bodies import Bodies
from ranker.office.callers import CallerCheck
from ranker.office.history import History
from ranker.office.http_server import HttpServer
from ranker.office.loop_errors import LoopErrors
from ranker.office.open_inference import HEALTH_PATHS as OPEN_INFERENCE_HEALTH_PATHS
from ranker.office.open_inference import OpenInference
from ranker.office.predictions import Predictions
from ranker.office.recent_errors import RecentErrors
from ranker.office.status_page import StatusPage
from ranker.office.workers import Workers
from ranker.process.address import PortTakenError, bind_http
from ranker.process.drift_watch import LOOK_SECONDS as DRIFT_LOOK_SECONDS
from ranker.process.drift_watch import DriftWatch
from ranker.process.heartbeat import BEAT_SECONDS, beating_while_loading
from ranker.process.link import END_NOW, Link
from ranker.process.settings import DEFAULT_HTTP_PORT, Settings
from ranker.process.split_watch import LOOK_SECONDS, SplitWatch
from ranker.process.vertex import Vertex
from ranker.repository.place import BUCKETS, open_place

if TYPE_CHECKING:
    from ranker.process.config_watch import ConfigWatch
    from ranker.ranking_log.upload import Uploader

logger = logging.getLogger(__name__)

NICENESS = 10
"""Beside a worker that needs all of a core the office gets a tenth of it: enough for probes and
scrapes. A worker waits for a core less than half as long as with 5 while the office reads lists of
JSON, each of which takes longer than to rank it; a lower priority still helps little more."""


class Office:
    """What the office runs, put together.

    Args:
        settings: how.
        reader: the server's metrics.
        recorder: where the office's own go.
        aggregates: where all of them are.
        errors: what went wrong lately.

    Attributes:
        ports: those that it has: the HTTP port (None: none) and those of the exporters'
            pages, by the options that ask for them.
        traced: those exporters that take traced requests.

    Raises:
        OSError, ValueError, ImportError: it can't be put together so; says why.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        recorder: OfficeRecorder,
        aggregates: Aggregates,
        errors: RecentErrors,
    ) -> None:
        self._recorder = recorder
        self._running = ExitStack()
        self.traced: list[Traced] = []
        self._own: list[socket.socket] = []
        self._http: list[socket.socket] = []
        self._certificates = settings.certificates()
        self._applications: dict[int, ASGIApp] = {}
        self._vertex = Vertex.of(os.environ)
        self._workers = Workers(settings.worker_addresses)
        self._reader = reader
        self._names = aggregates.names
        history = History(lambda: snapshot(aggregates))
        self._status = StatusPage(history, self._workers, errors, reader.drift)
        health = health_routes(self._serves)
        with self._running:
            pages = self._start_exporters(settings, reader)
            own_ports: dict[str, int] = {}
            for page in pages:
                if page.port >= 0:
                    own = application([*page_routes([page]), *health])
                    own_ports[page.option] = self._listen(
                        "metrics", settings.host, page.port, own, self._own
                    )
            api, status = self._api_routes(settings), self._status.routes()
            front = application([*page_routes(pages), *api, *health, *status])
            public = [*HEALTH_PATHS, *OPEN_INFERENCE_HEALTH_PATHS]
            if self._vertex:
                public.append(self._vertex.health_route)
            waits = settings.config and settings.tls_client_ca  # for what the configuration says
            policy = None if waits else settings.caller_policy()
            self._callers = CallerCheck(front, self._workers, public, policy)
            http_port = self._listen_http(settings, self._callers)
            self.ports = {"http_port": http_port, "exporters": own_ports}
            self._running = self._running.pop_all()

    def let_in(self, policy: CallerPolicy) -> None:
        """Lets these callers in from now on. Call it from any thread."""
        self._callers.policy = policy

    async def run(self) -> None:
        """Works until `END_NOW`."""
        # Two, so that callers on the HTTP port can't take the connections of those who scrape and
        # probe, who have no certificate either.
        context = self._certificates.context if self._certificates else None
        responded = self._recorder.responded
        servers = [
            HttpServer(self._applications, self._own, responded),
            HttpServer(self._applications, self._http, responded, context),
        ]
        work = (self._beat(), self._watch_splits(), self._watch_drift())
        tasks = [asyncio.create_task(task) for task in work]
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(LoopErrors())

        def stop() -> None:
            self._status.close()
            self._callers.paced.drain()
            for server in servers:
                server.stop()

        loop.add_signal_handler(END_NOW, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [END_NOW])
        if self.ports["http_port"] not in (None, -1):
            tasks.append(asyncio.create_task(self._status.run()))
        await asyncio.gather(*(server.run_until_stopped() for server in servers))
        for task in tasks:
            task.cancel()
        await self._workers.close()

    def close(self) -> None:
        """Has the exporters publish what was counted last."""
        self._running.close()

    async def _beat(self) -> None:
        while True:
            self._recorder.beat(time.monotonic())
            await asyncio.sleep(BEAT_SECONDS)

    async def _watch_splits(self) -> None:
        watch = SplitWatch()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            watch.look(self._reader.splits())

    async def _watch_drift(self) -> None:
        watch = DriftWatch()
        while True:
            await asyncio.sleep(DRIFT_LOOK_SECONDS)
            self._reader.drift.keep(self._names())
            watch.look(self._reader.drift.models())

    def _start_exporters(self, settings: Settings, reader: Reader) -> list[Page]:
        pages: list[Page] = []
        for exporter in load_exporters(settings.exporter_places).values():
            started = exporter.start(reader, self._recorder, settings.exporters)
            if started is not None:
                self._running.callback(started.close)
                pages += started.pages
                if started.traced is not None:
                    self.traced.append(started.traced)
        return pages

    def _serves(self) -> bool:
        return self._reader.serving() > 0

    def _api_routes(self, settings: Settings) -> list[BaseRoute]:
        bodies, most = Bodies(), settings.max_request_rows
        open_inference = OpenInference(self._workers, bodies, most, self._serves)
        routes = [*Api(self._workers, bodies, most).routes(), *open_inference.routes()]
        if self._vertex:
            predictions = Predictions(self._workers, bodies, most, self._serves)
            # First: they may be any paths.
            routes[:0] = predictions.routes(self._vertex.health_route, self._vertex.predict_route)
        return routes

    def _listen(
        self, what: str, host: str, port: int, app: ASGIApp, bound: list[socket.socket]
    ) -> int:
        """Has an application served; adds its sockets to `bound` and returns the port."""
        sockets = bind_http(what, host, port)
        for each in sockets:
            self._running.callback(each.close)
        port = int(sockets[0].getsockname()[1])
        bound += sockets
        self._applications[port] = app
        logger.info("%s on port %d", what, port)
        return port

    def _listen_http(self, settings: Settings, app: ASGIApp) -> int | None:
        """Serves on the HTTP port, if there is to be one; returns it.

        Nobody asked for the default port: if it is taken the server does without.
        """
        what = "HTTPS" if self._certificates else "HTTP"
        port = settings.http_port
        if port is None and self._vertex:
            port = self._vertex.http_port
        if port is not None:
            return self._listen(what, settings.host, port, app, self._http) if port >= 0 else port
        try:
            return self._listen(what, settings.host, DEFAULT_HTTP_PORT, app, self._http)
        except PortTakenError as error:
            logger.warning("no HTTP: %s", error.strerror)
            return None


def main() -> None:
    """The program."""
    os.nice(NICENESS)  # before it has threads
    link = Link(int(sys.argv[1]))
    settings = Settings.from_json(sys.argv[2])
    metrics_fd, access_log_fd, workers_end_fd = map(int, sys.argv[3:])
    # A service manager's SIGTERM is for the supervisor, which has the office end last.
    for_supervisor = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    signal.pthread_sigmask(signal.SIG_SETMASK, [*for_supervisor, END_NOW])
    logs.configure(settings.log_format, settings.log_level, "office", settings.gcp_project)
    aggregates = Aggregates.attach(metrics_fd)
    recorder = OfficeRecorder(aggregates)
    reader = Reader(aggregates, drift := Drift())
    project = logs.project_of(settings.gcp_project)
    errors = RecentErrors()
    try:
        with beating_while_loading(recorder.beat):
            office = Office(settings, reader, recorder, aggregates, errors)
            watch = watch_config(settings, link, office) if settings.config else None
            uploader = start_uploader(settings, aggregates)
    except (RankerError, OSError, ValueError, ImportError) as error:
        link.failed(str(error))
        sys.exit(1)
    access_log = AccessLogWriter(
        access_log_fd,
        workers_end_fd,
        aggregates,
        project,
        errors=errors,
        drift=drift,
        traced=office.traced,
    )
    link.ready(office.ports)
    if watch is None:
        link.listen(end=END_NOW)
    else:
        watch.start()
        link.listen(lambda _: watch.reload(), END_NOW)
    asyncio.run(office.run())
    access_log.close()
    if uploader is not None:
        uploader.close()
    office.close()
    reader.close()
    logging.shutdown()
    os._exit(0)  # a thread of an exporter that has given up must not hold the process


def watch_config(settings: Settings, link: Link, office: Office) -> ConfigWatch:
    """What tells the supervisor what is to be served, and both who may call, once it is started."""
    from ranker.process.config_watch import ConfigWatch

    def let_in(callers: CallerPolicy) -> None:
        try:
            policy = settings.caller_policy(callers)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        link.say({"callers": callers.to_facts()})
        office.let_in(policy)

    return ConfigWatch(
        settings.config,
        settings.model_cache,
        let_in=let_in,
        want=lambda wanted: link.say({"wanted": wanted.to_facts()}),
        fail=lambda reason: link.say({"unwanted": reason}),
    )


def start_uploader(settings: Settings, aggregates: Aggregates) -> Uploader | None:
    """What takes the ranking log to a bucket, if it belongs in one.

    Raises:
        SourceError: the address is not one of a bucket and a path in it.
        MissingExtraError: the extra `remote` is not installed.
    """
    if not settings.log_rankings.startswith(BUCKETS):
        return None
    from ranker.metrics.ranking_log_recorder import RankingLogRecorder
    from ranker.ranking_log.segment_files import folder_of
    from ranker.ranking_log.upload import Uploader

    return Uploader(
        folder_of(settings.log_rankings, settings.model_cache),
        open_place(settings.log_rankings),
        RankingLogRecorder(aggregates, aggregates.layout.slot("office")),
    )
