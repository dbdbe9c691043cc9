"""A server's certificates, whose files are replaced while they are read."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable

import pytest

from ranker import tls
from ranker.tls import Certificates
from tests.certificates import Place


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def replaced(place, monkeypatch) -> Callable[[str], None]:
    """Has the files be replaced by the third ones just after that file of the second is read."""
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0.0)

    def after(file: str) -> None:
        read = tls._text

        def text(path: str) -> bytes:
            found = read(path)
            if path.endswith(file):
                monkeypatch.setattr(tls, "_text", read)
                place.replace("third")
            return found

        monkeypatch.setattr(tls, "_text", text)
        place.replace("second")

    return after


def load(place: Place) -> Certificates:
    return Certificates(str(place.cert), str(place.key))


def files(place: Place, name: str) -> tuple[bytes, bytes]:
    folder = place.folder / name
    return (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()


def shown(context: ssl.SSLContext) -> str:
    """The certificate that a server with this context shows."""
    client_context = ssl.create_default_context()
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True))


def test_a_certificate_and_the_key_of_another_are_not_taken(place, replaced):
    certificates = load(place)
    replaced("tls.crt")
    assert not certificates.refresh()
    assert (certificates.pem.cert, certificates.pem.key) == files(place, "first")
    assert certificates.refresh(), "what is there now is read the next time"
    assert (certificates.pem.cert, certificates.pem.key) == files(place, "third")


def test_both_ports_have_the_same_certificate(place, replaced):
    certificates = load(place)
    replaced("tls.key")
    assert certificates.refresh()
    assert (certificates.pem.cert, certificates.pem.key) == files(place, "second")
    assert shown(certificates._context) == certificates.pem.cert.decode()
    assert shown(certificates.context()) == files(place, "third")[0].decode()


def test_no_file_stays_open(place):
    load(place)
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        load(place)
    assert len(os.listdir("/dev/fd")) <= before
