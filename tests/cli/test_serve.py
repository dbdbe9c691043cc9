"""What `ranker serve` says of its environment and its certificate, before it starts anything."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.cli.serve import serve, warn_of_unknown_variables
from ranker.process.settings import Settings
from ranker.process.supervisor import Supervisor
from tests.certificates import Authority


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RANKER_METRIC_PORT", "RANKER_METRICS_PORT"),
        ("RANKER_MAX_QUEUE_ROW", "RANKER_MAX_QUEUE_ROWS"),
        ("RANKER_SERVE_WORKERS", "RANKER_WORKERS"),
        ("RANKER_FAVOURITE_COLOUR_OF_ALL", None),
    ],
)
def test_a_variable_that_sets_nothing_is_named(caplog, name, meant):
    warn_of_unknown_variables(serve, {name: "1", "RANKER_PORT": "50051", "HOME": "/"})
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert name in record.getMessage()
    assert ("did you mean" in record.getMessage()) == (meant is not None)
    assert meant is None or record.getMessage().endswith(f"{meant}?")


@pytest.mark.parametrize(
    "name",
    [
        "RANKER_GCP_PROJECT",
        "RANKER_MODELS",
        "RANKER_RANK_TARGET",
        pytest.param("RANKER_SERVICE_HOST", id="of-kubernetes"),
        pytest.param("RANKER_PORT_50051_TCP_ADDR", id="of-kubernetes-too"),
    ],
)
def test_other_variables_are_not(caplog, name):
    warn_of_unknown_variables(serve, {name: "1"})
    assert not caplog.records


def test_a_flag_has_the_one_variable_that_is_documented(monkeypatch):
    """Those of other commands have the command's name in them; that of `serve` sets nothing."""
    started: list[Settings] = []

    def start(_: Supervisor, settings: Settings) -> None:
        started.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr("ranker.logs.configure", lambda *_, **__: None)  # it is the whole process's
    monkeypatch.setattr(Supervisor, "__init__", start)
    variables = {"RANKER_SERVE_WORKERS": "3", "RANKER_SERVE_THREADS": "many", "RANKER_PORT": "5"}
    runner = CliRunner(env=variables)
    result = runner.invoke(cli, ["serve", "books.onnx"], auto_envvar_prefix="RANKER")
    assert result.stderr.splitlines()[-1] == "Error: enough"
    assert (started[0].workers, started[0].port) == (1, 5)


@pytest.fixture
def tls(tmp_path) -> tuple[Path, Path]:
    """A certificate and its key."""
    return Authority(tmp_path).issue(tmp_path / "own", "own")


def refusal(monkeypatch, *arguments: object) -> str:
    """The last line of a command that starts nothing."""

    def start(*_: object) -> None:
        raise AssertionError("it starts a server")

    monkeypatch.setattr("ranker.logs.configure", lambda *_, **__: None)  # it is the whole process's
    monkeypatch.setattr(Supervisor, "__init__", start)
    result = CliRunner().invoke(serve, ["books.onnx", *map(str, arguments)])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr.splitlines()[-1]


def no_key(cert: Path, key: Path) -> None:  # noqa: ARG001
    key.unlink()


def no_pem(cert: Path, key: Path) -> None:  # noqa: ARG001
    cert.write_text("x")


def another_key(cert: Path, key: Path) -> None:  # noqa: ARG001
    key.write_bytes(Authority(key.parent).issue(key.parent / "other", "other")[1].read_bytes())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(no_key, "tls.key: No such file", id="no-key"),
        pytest.param(no_pem, "expected a certificate and its key", id="no-pem"),
        pytest.param(another_key, "KEY_VALUES_MISMATCH", id="another-key"),
    ],
)
def test_wrong_certificates_are_one_clear_line(monkeypatch, tls, spoil, said):
    spoil(*tls)
    assert said in refusal(monkeypatch, "--tls-cert", tls[0], "--tls-key", tls[1])


def test_a_certificate_needs_its_key(monkeypatch, tls):
    assert "expected --tls-cert and --tls-key" in refusal(monkeypatch, "--tls-cert", tls[0])
