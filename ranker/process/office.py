"""The office: the process that does all that is slow, so that no request waits for it.

    python -m ranker.process.office LINK SETTINGS METRICS

It runs the exporters of metrics, and watches the configuration that says what is served, if there
is one. It may die and come back: what was
counted is in the metrics' file, which it only reads. LINK and METRICS are
inherited descriptors, of the connection to the supervisor and of that file;
SETTINGS is JSON.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ranker import logs
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.exporters import Value, exporters
from ranker.metrics.reader import Reader
from ranker.metrics.recorder import OfficeRecorder
from ranker.process.heartbeat import BEAT_SECONDS, beating_while_loading
from ranker.process.link import Link
from ranker.process.settings import Settings

if TYPE_CHECKING:
    from ranker.process.config_watch import ConfigWatch

logger = logging.getLogger(__name__)

_ENDING = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """The program."""
    link = Link(int(sys.argv[1]))
    settings = Settings.from_json(sys.argv[2])
    metrics_fd = int(sys.argv[3])
    signal.pthread_sigmask(signal.SIG_SETMASK, _ENDING)  # they are waited for instead
    logs.configure(settings.log_format, settings.log_level, "office", settings.gcp_project)
    aggregates = Aggregates.attach(metrics_fd)
    recorder = OfficeRecorder(aggregates)
    reader = Reader(aggregates)
    with ExitStack() as running:
        running.callback(reader.close)
        try:
            with beating_while_loading(recorder.beat):
                bound = start_exporters(settings, reader, recorder, running)
                watch = watch_config(settings, link) if settings.config else None
        except (OSError, ValueError, ImportError) as error:
            link.failed(str(error))
            sys.exit(1)
        link.ready(bound)
        if watch is None:
            link.listen()
        else:
            running.callback(watch.close)
            watch.start()
            link.listen(lambda _: watch.reload())
        while signal.sigtimedwait(_ENDING, BEAT_SECONDS) is None:
            recorder.beat(time.monotonic())


def watch_config(settings: Settings, link: Link) -> ConfigWatch:
    """What tells the supervisor what is to be served, once it is started."""
    from ranker.process.config_watch import ConfigWatch

    return ConfigWatch(
        Path(settings.config),
        settings.model_cache,
        want=lambda wanted: link.say({"wanted": wanted.to_facts()}),
        fail=lambda reason: link.say({"unwanted": reason}),
    )


def start_exporters(
    settings: Settings, reader: Reader, recorder: OfficeRecorder, running: ExitStack
) -> dict[str, Value]:
    """Starts what the settings ask for.

    Args:
        settings: how.
        reader: what is published.
        recorder: where is counted what became of it.
        running: gets what ends each of them.

    Returns:
        Options that turned out otherwise than they were set, such as a port that was 0.

    Raises:
        OSError, ValueError, ImportError: one can't be started; says which and why.
    """
    bound: dict[str, Value] = {}
    values = {"host": settings.host, **settings.exporters}
    for exporter in exporters().values():
        started = exporter.start(reader, recorder, values)
        if started is not None:
            running.callback(started.close)
            bound.update(started.bound)
    return bound


if __name__ == "__main__":
    main()
    logging.shutdown()
    os._exit(0)  # a thread of an exporter that has given up must not hold the process
