"""TLS: who is let in, who is not, and that certificates are replaced while the server serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ranker.client import AsyncRankerClient, RankerClient, Tls
from ranker.errors import RankerError
from tests.certificates import Authority
from tests.end_to_end.conftest import NAMES, RunningServer, on_both_transports, on_one_transport
from tests.office.support import ask

SECONDS = 20.0


class Place:
    """A folder as cert-manager mounts it: links to a link to what is there now."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.folder = folder / "mounted"
        self.folder.mkdir()
        self.cert, self.key = self.folder / "tls.crt", self.folder / "tls.key"
        for path in (self.cert, self.key):
            path.symlink_to(Path("..data") / path.name)
        self.replace("first")

    def replace(self, name: str) -> None:
        """Has another certificate be there, all at once."""
        self.authority.issue(self.folder / name, name)
        new = self.folder / "..new"
        new.symlink_to(name)
        os.replace(new, self.folder / "..data")

    @property
    def options(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def start_tls(start, place):
    """Starts a server with the certificate; it is known by `tls`."""

    def start_tls(*arguments: str, tls: Tls | None = None) -> RunningServer:
        tls = tls or Tls(place.authority.path)
        kind = type("TlsServer", (RunningServer,), {"tls": tls})
        return start(*place.options, *arguments, kind=kind)

    return start_tls


def shown(port: int) -> str:
    """The name in the certificate that a new connection is shown."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        context.wrap_socket(plain) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def ranked(server, truth, tls: Tls | None, seconds: float = 3.0) -> list[int]:
    with RankerClient(server.address, tls=tls, timeout=seconds) as client:
        return client.rank(truth.rows[:10]).indices.tolist()


def best(truth, rows: int = 10) -> list[int]:
    return np.argsort(-truth.scores(truth.rows[:rows]), kind="stable").tolist()


@on_both_transports
def test_only_who_speaks_tls_and_knows_the_authority_is_answered(start_tls, truth, place, tmp_path):
    server = start_tls()
    assert ranked(server, truth, Tls(place.authority.path)) == best(truth)
    named = Tls(place.authority.path, server_name="localhost")
    assert ranked(server, truth, named) == best(truth)
    for stranger in (None, Tls(), Tls(Authority(tmp_path, "other").path)):
        with pytest.raises(RankerError):
            ranked(server, truth, stranger, seconds=1.0)


def test_callers_without_a_certificate_of_the_authority_are_refused(
    start_tls, truth, place, tmp_path
):
    known = place.authority.issue(tmp_path / "known", "retrieval")
    unknown = Authority(tmp_path, "other").issue(tmp_path / "unknown", "retrieval")
    with_cert = Tls(place.authority.path, *known)
    server = start_tls("--tls-client-ca", str(place.authority.path), tls=with_cert)
    assert ranked(server, truth, with_cert) == best(truth)
    for without in (Tls(place.authority.path), Tls(place.authority.path, *unknown)):
        with pytest.raises(RankerError):
            ranked(server, truth, without, seconds=1.0)


def test_a_new_certificate_is_for_new_connections_and_ends_none(start_tls, truth, place):
    server, tls = start_tls(), Tls(place.authority.path)
    ports = [server.port, int(server.wait_for_log(r"HTTPS on port (\d+)")[1])]
    assert [shown(port) for port in ports] == ["CN=first"] * 2
    with (
        RankerClient(server.address, tls=tls, timeout=SECONDS) as client,
        client.stream() as stream,
    ):
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
        place.replace("second")
        limit = time.monotonic() + SECONDS
        while {shown(port) for port in ports} != {"CN=second"}:
            assert time.monotonic() < limit
            assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
            time.sleep(0.1)
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
    assert ranked(server, truth, tls) == best(truth)


@on_one_transport
def test_a_certificate_that_does_not_fit_changes_nothing(start_tls, truth, place):
    server = start_tls()
    (place.folder / "first" / "tls.key").write_text("half of a k")
    time.sleep(1.2)  # the files are looked at once a second
    assert shown(server.port) == "CN=first"
    assert ranked(server, truth, Tls(place.authority.path)) == best(truth)
    server.wait_for_log("the certificate stays as it was")


@on_one_transport
def test_workers_and_http(start_tls, truth, place):
    server = start_tls("--workers", "2")
    for _ in range(6):
        assert ranked(server, truth, Tls(place.authority.path)) == best(truth)
    port = int(server.wait_for_log(r"HTTPS on port (\d+)")[1])
    context = ssl.create_default_context(cafile=place.authority.path)
    for _ in range(4):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=SECONDS, context=context
        )
        values = [[None if np.isnan(v) else float(v) for v in row] for row in truth.rows[:10]]
        body = json.dumps({"candidates": values})
        connection.request(
            "POST", "/v1/models/books:rank", body, {"Content-Type": "application/json"}
        )
        assert json.load(connection.getresponse())["indices"] == best(truth)
        connection.close()
    # Whoever scrapes or probes has no certificate.
    assert ask(server.metrics_port, "/readyz").status == 200
    assert ask(server.metrics_port, "/metrics").status == 200
    assert server.stop() == 0


@on_one_transport
def test_asyncio(start_tls, truth, place):
    server = start_tls()

    async def ask() -> list[int]:
        async with AsyncRankerClient(server.address, tls=Tls(place.authority.path)) as client:
            ranking = await client.rank(truth.rows[:10], timeout=SECONDS)
            return ranking.indices.tolist()

    assert asyncio.run(ask()) == best(truth)


@on_one_transport
def test_the_command_line(start_tls, truth, place, tmp_path):
    server = start_tls()
    path = tmp_path / "candidates.csv"
    lines = [",".join(NAMES), *(",".join(map(str, np.nan_to_num(row))) for row in truth.rows[:5])]
    path.write_text("\n".join(lines))
    ranker = [sys.executable, "-m", "ranker"]
    for command in (["rank", str(path), "--server", server.address], ["models", server.address]):
        known = [*ranker, *command, "--tls-ca", str(place.authority.path)]
        done = subprocess.run(known, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def no_key(place: Place) -> None:
    (place.folder / "first" / "tls.key").unlink()


def no_pem(place: Place) -> None:
    (place.folder / "first" / "tls.crt").write_text("x")


def another_key(place: Place) -> None:
    other = place.authority.issue(place.folder / "other", "other")[1]
    (place.folder / "first" / "tls.key").write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(no_key, "tls.key: No such file", id="no-key"),
        pytest.param(no_pem, "expected a certificate and its key", id="no-pem"),
        pytest.param(another_key, "KEY_VALUES_MISMATCH", id="another-key"),
    ],
)
def test_wrong_files_are_one_clear_line(place, truth, spoil, said):
    spoil(place)
    done = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(truth.path), *place.options, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_certificate_needs_its_key(place, truth):
    done = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(truth.path), *place.options[:2]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "expected --tls-cert and --tls-key" in done.stderr
