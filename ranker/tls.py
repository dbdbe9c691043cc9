"""The server's certificates: files that are read anew when they have changed.

Certificates are replaced on disk while the server runs, by cert-manager say, which swaps a link
to a folder. A new connection gets the new one; those that are open go on. A pair that does not
fit, as when one file is written and the other is not yet, changes nothing.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.memory_file import new_memory_file

if TYPE_CHECKING:
    import grpc

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""Seconds between two looks at the files, at least."""

_HANDSHAKE_BYTES = 3000
"""What a server says in a handshake beside its certificates: with a client's certificate, which the
tickets for the next connection hold, some two and a half thousand bytes."""


@dataclass(frozen=True)
class Pem:
    """What the files hold.

    Attributes:
        cert: the certificate, and those between it and its authority.
        key: its private key.
        client_ca: the authorities whose clients are let in; empty: anybody is.
    """

    cert: bytes
    key: bytes
    client_ca: bytes


class Certificates:
    """A server's certificate, key and the authorities of its clients. Thread-safe.

    Args:
        cert: path of the certificate in PEM, with those between it and its authority.
        key: path of its key in PEM, without a password.
        client_ca: path of the authorities, in PEM, one of which must have signed a client's
            certificate; empty: clients need none.

    Attributes:
        pem: what was read last, and fits.

    Raises:
        ValueError: says which file is wrong, and how.
    """

    def __init__(self, cert: str, key: str, client_ca: str = "") -> None:
        self._paths = cert, key, client_ca
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._seen = self._signature()
        self.pem, self._context = self._read()

    @property
    def handshake_bytes(self) -> int:
        """What a caller gets of a handshake at most: the certificates and some more."""
        return len(self.pem.cert) + _HANDSHAKE_BYTES

    def refresh(self) -> bool:
        """Reads the files again if they have changed; whether there is anything new."""
        with self._lock:
            now = time.monotonic()
            if now < self._looked + _LOOK_SECONDS:
                return False
            self._looked = now
            signature = self._signature()
            if signature == self._seen:
                return False
            self._seen = signature
            try:
                pem, context = self._read()
            except ValueError as error:
                logger.warning("the certificate stays as it was: %s", error)
                return False
            if pem == self.pem:
                return False
            self.pem, self._context = pem, context
        logger.info("new connections get the new certificate of %s", self._paths[0])
        return True

    def context(self) -> ssl.SSLContext:
        """What a new connection of Python's own servers gets; ask for each.

        Another one whenever the files have changed: a context forgets no authority, and takes
        up sessions that it has begun without asking for the client's certificate again.
        """
        self.refresh()
        return self._context

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for gRPC's servers, which ask for what is new at each handshake."""
        import grpc

        def configuration() -> grpc.ServerCertificateConfiguration:
            pem = self.pem
            return grpc.ssl_server_certificate_configuration(
                [(pem.key, pem.cert)], root_certificates=pem.client_ca or None
            )

        return grpc.dynamic_ssl_server_credentials(
            configuration(),
            # None is for: as before. The stubs don't know.
            lambda: configuration() if self.refresh() else None,  # type: ignore[arg-type, return-value]
            require_client_authentication=bool(self._paths[2]),
        )

    def _signature(self) -> tuple[object, ...]:
        """Changes with the files: which they are, and when they were written."""
        found: list[tuple[object, ...]] = []
        for path in filter(None, self._paths):
            try:
                status = os.stat(path)
            except OSError:
                found.append((path, None))
            else:
                found.append((path, (status.st_ino, status.st_size, status.st_mtime_ns)))
        return tuple(found)

    def _read(self) -> tuple[Pem, ssl.SSLContext]:
        cert, key, client_ca = self._paths
        texts = [_text(path) for path in (cert, key, client_ca)]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            # As gRPC: an authority in the file is enough, also if another one has signed it.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            try:
                context.load_verify_locations(cadata=texts[2].decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise ValueError(f"{client_ca}: expected certificates in PEM: {error}") from error
        try:
            # What was read, and not the files again: they may be others by now.
            with _as_file(texts[0]) as cert_file, _as_file(texts[1]) as key_file:
                context.load_cert_chain(cert_file, key_file, password=_no_password)
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise ValueError(
                f"{cert} and {key}: expected a certificate and its key, in PEM: {reason}"
            ) from error
        return Pem(*texts), context


def _text(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file in memory with these bytes: Python's `ssl` takes nothing else."""
    fd = new_memory_file("tls")
    try:
        with open(fd, "r+b", closefd=False) as file:
            file.write(content)
            file.seek(0)  # some systems open such a path where the descriptor is
        yield f"/dev/fd/{fd}"
    finally:
        os.close(fd)


def _no_password() -> str:
    raise ValueError("the key has a password; a server has nobody to ask for it")
