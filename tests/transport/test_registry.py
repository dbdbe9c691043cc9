"""Which transport is chosen, and whether the installed grpcio is one that we know."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest

from ranker.transport import core_api as grpcio
from ranker.transport import environment, self_test
from ranker.transport import registry as select
from ranker.transport.aio import AioTransport
from ranker.transport.core import CoreTransport


def test_installed_grpcio_is_known():
    """Fails on a new release of grpcio.

    Then run the tests of this folder with the bound in `grpcio.TESTED` raised,
    read what has changed in cygrpc, and only then keep it raised.
    """
    assert grpcio.untested() is None
    assert grpcio.unavailable() is None


@pytest.mark.parametrize("wanted", ["auto", "core"])
def test_core_is_chosen_if_it_can_be(wanted):
    assert select.select(wanted).make is CoreTransport


def test_aio_if_asked_for():
    assert select.select("aio") == (AioTransport, "asked for")


VERSIONS = [
    pytest.param("1.84.9", id="older"),
    pytest.param("1.999.0", id="newer"),
    pytest.param("2.0.0rc1", id="next-major"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_untested_release_is_tested_and_says_so(monkeypatch, version):
    monkeypatch.setattr(grpc, "__version__", version)
    chosen = select.select()
    assert chosen.make is CoreTransport
    assert f"grpcio {version} is outside of the tested releases" in chosen.reason
    assert "its core has passed the self-test" in chosen.reason


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param("import sys; sys.exit('a\\nb')", "the self-test: b", id="fails"),
        pytest.param("raise TypeError('other')", "the self-test: TypeError: other", id="raises"),
        pytest.param(
            "import os; os.kill(os.getpid(), 11)", "it ended with exit code -11", id="crashes"
        ),
        pytest.param("import time; time.sleep(60)", "it did not end within 1 s", id="hangs"),
    ],
)
def test_an_untested_release_that_fails_falls_back_and_says_why(monkeypatch, program, reason):
    monkeypatch.setattr(grpc, "__version__", "1.999.0")
    monkeypatch.setattr(self_test, "COMMAND", [sys.executable, "-c", program])
    if "sleep" in program:
        monkeypatch.setattr(self_test, "SECONDS", 1.0)
    chosen = select.select()
    assert chosen.make is AioTransport
    assert chosen.reason.startswith("grpcio 1.999.0 is outside of the tested releases 1.85 to 1.85")
    assert reason in chosen.reason
    assert "several times the CPU time" in chosen.reason
    with pytest.raises(ValueError, match="its core has failed the self-test"):
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
    assert f"has no cygrpc.{name};" in select.select().reason


def test_missing_method_falls_back_and_says_which(monkeypatch):
    class Other:
        class Server: ...

    monkeypatch.setattr(grpcio, "cygrpc", Other)
    assert "has no cygrpc.Server.add_http2_port;" in select.select().reason


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
