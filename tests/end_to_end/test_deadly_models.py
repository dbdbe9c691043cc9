"""A version that kills the worker which loads it: what was served goes on being served."""

from __future__ import annotations

import re
import signal
import threading

from ranker.client import RankerClient
from ranker.errors import RankerError
from tests.end_to_end.conftest import Broken, on_one_transport
from tests.end_to_end.test_live_models import Shop, listed, published, shop  # noqa: F401
from tests.waiting import PATIENCE, wait_until

STABLE = "{{models: {{books: {{source: books, labels: {{stable: {}}}}}}}, poll_seconds: 1}}"


class Caller:
    """Asks, as our client does, until it is told to stop."""

    def __init__(self, server: Broken, shop: Shop) -> None:  # noqa: F811
        self.versions: list[str] = []
        self.failures: list[str] = []
        self._server, self._shop, self._over = server, shop, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with RankerClient(self._server.address, channels=4, timeout=PATIENCE) as client:
            while not self._over.wait(0.01):
                try:
                    self.versions.append(client.rank(self._shop.rows).version)
                except RankerError as error:
                    self.failures.append(str(error))


@on_one_transport
def test_a_version_that_kills_workers_takes_one_at_a_time_and_is_never_served(
    shop: Shop,  # noqa: F811
    transport,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setenv("DEADLY_VERSION", "8")
    shop.write(STABLE.format(7))
    options = ("--config", str(shop.config), "--transport", transport, "--workers", "2")
    server = Broken(tmp_path / "log", *options)

    def deaths(worker: int) -> int:
        return len(re.findall(f"worker {worker} ended with SIGKILL", server.log.read_text()))

    def serve(times: int) -> bool:
        return len(re.findall("worker 0 serves", server.log.read_text())) >= times

    try:
        with Caller(server, shop) as caller:
            shop.write(STABLE.format(8))
            server.wait_for_log("goes on being served: a worker ended while new models")
            wait_until(lambda: serve(2))
            wait_until(lambda: "a worker ended" in listed(server).failure)
            died = deaths(0)
            server.signal(signal.SIGHUP)  # it is tried again at once
            wait_until(lambda: deaths(0) > died)
            wait_until(lambda: serve(deaths(0) + 1))
            shop.write(STABLE.format(9))
            wait_until(lambda: caller.versions[-8:] == ["9"] * 8)
        assert caller.failures == []
        assert set(caller.versions) == {"7", "9"}
        assert deaths(1) == 0, "it was told of the models before another one had prepared them"
    finally:
        server.kill()
