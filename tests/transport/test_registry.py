"""Which transport is chosen, and whether the installed grpcio is one that we know."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest

from ranker.transport import core_api as grpcio
from ranker.transport import environment
from ranker.transport import registry as select
from ranker.transport.aio import AioTransport
from ranker.transport.core import CoreTransport


def test_installed_grpcio_is_known():
    """Fails on a new release of grpcio.

    Then run the tests of this folder with the bound in `grpcio.TESTED` raised,
    read what has changed in cygrpc, and only then keep it raised.
    """
    assert grpcio.unavailable() is None


@pytest.mark.parametrize("wanted", ["auto", "core"])
def test_core_is_chosen_if_it_can_be(wanted):
    assert select.select(wanted).make is CoreTransport


def test_aio_if_asked_for():
    assert select.select("aio") == (AioTransport, "asked for")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("1.84.9", "outside of the tested releases", id="older"),
        pytest.param("1.999.0", "outside of the tested releases", id="newer"),
        pytest.param("2.0.0rc1", "outside of the tested releases", id="next-major"),
    ],
)
def test_unknown_release_falls_back_and_says_so(monkeypatch, version, reason):
    monkeypatch.setattr(grpc, "__version__", version)
    chosen = select.select()
    assert chosen.make is AioTransport
    assert version in chosen.reason
    assert reason in chosen.reason
    with pytest.raises(ValueError, match=reason):
        select.select("core")


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        pytest.param("Server", "Server", id="class"),
        pytest.param("CallDetails", "CallDetails", id="unexported"),
    ],
)
def test_missing_name_falls_back_and_says_which(monkeypatch, missing, name):
    class Other:
        def __getattr__(self, attribute):
            if attribute == missing:
                raise AttributeError(attribute)
            return getattr(sys.modules["grpc._cython.cygrpc"], attribute)

    monkeypatch.setattr(grpcio, "cygrpc", Other())
    assert select.select().make is AioTransport
    assert select.select().reason.endswith(f"has no cygrpc.{name}")


def test_missing_method_falls_back_and_says_which(monkeypatch):
    class Other:
        class Server: ...

    monkeypatch.setattr(grpcio, "cygrpc", Other)
    assert select.select().reason.endswith("has no cygrpc.Server.add_http2_port")


def test_no_core_at_all(monkeypatch):
    monkeypatch.setattr(grpcio, "cygrpc", None)
    assert "has no grpc._cython.cygrpc" in select.select().reason


def test_nonsense():
    with pytest.raises(ValueError, match="expected one of auto, core, aio, got 'quic'"):
        select.select("quic")


def test_environment_can_only_be_prepared_before_grpc_is_imported():
    with pytest.raises(RuntimeError, match="imported already"):
        environment.prepare()


def test_prepared_environment_keeps_a_choice_already_made(monkeypatch):
    monkeypatch.delitem(sys.modules, "grpc")
    monkeypatch.setenv("GRPC_EXPERIMENTS", "tcp_frame_size_tuning")
    environment.prepare()
    assert not environment.prepared()
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    environment.prepare()
    assert environment.prepared()


def test_prepared_grpc_knows_the_experiment():
    """gRPC says on stderr when it is told about an experiment that it does not have."""
    script = (
        "from ranker.transport import environment; environment.prepare();"
        "from ranker.transport.core import CoreTransport as T;"
        "from types import SimpleNamespace as N;"
        "counts = N(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17);"
        "T({}, lambda: None, counts, max_message_bytes=1).bind('127.0.0.1:0')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "nknown experiment" not in done.stderr
