"""The configuration changes while a server loads its first models."""

from __future__ import annotations

import threading

from tests.end_to_end.conftest import Broken, on_one_transport
from tests.end_to_end.test_live_models import STABLE, Shop, listed, published, shop  # noqa: F401
from tests.waiting import wait_until


@on_one_transport
def test_a_mistake_that_is_made_meanwhile_does_not_end_the_server(
    shop: Shop,  # noqa: F811
    transport,
    tmp_path,
    monkeypatch,
):
    log, slow = tmp_path / "log", tmp_path / "slow"
    log.touch()
    slow.touch()
    monkeypatch.setenv("SLOW_START", str(slow))

    def make_a_mistake() -> None:
        wait_until(lambda: "read " in log.read_text())
        shop.write("models: [")
        wait_until(lambda: log.read_text().count("what is served stays as it is"))
        slow.unlink()

    meanwhile = threading.Thread(target=make_a_mistake)
    meanwhile.start()
    try:
        server = Broken(log, "--config", str(shop.config), "--transport", transport)
    finally:
        slow.unlink(missing_ok=True)
        meanwhile.join()
    try:
        assert {model.version for model in listed(server).models} == {"7", "8", "9"}
        wait_until(lambda: "ranker.yaml:1:" in listed(server).failure)
        shop.write(STABLE.format(8))
        wait_until(lambda: listed(server).models[0].version == "8")
    finally:
        server.kill()
