"""Certificates for tests, signed by an authority of their own."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates for 127.0.0.1 and `localhost`.

    Args:
        folder: where to write.
        name: of the authority.
        above: who has signed its own certificate; None: itself.
        is_one: whether that certificate says that it is an authority.
        days: until it expires.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "authority",
        above: Authority | None = None,
        *,
        is_one: bool = True,
        days: float = 1.0,
    ) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        authority = x509.BasicConstraints(ca=is_one, path_length=None)
        self.path = folder / f"{name}.pem"
        cert = (above or self)._signed(self._name, self._key.public_key(), authority, days)
        self.path.write_bytes(_pem(cert))

    def issue(
        self,
        folder: Path,
        name: str,
        names: Sequence[x509.GeneralName] | None = None,
        days: float = 1.0,
    ) -> tuple[Path, Path]:
        """Writes a certificate and its key: `tls.crt` and `tls.key`, as cert-manager does.

        Args:
            folder: where to.
            name: its subject's common name.
            names: its subject alternative names; None: those of this machine.
            days: until it expires.
        """
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        if names is None:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        extension = x509.SubjectAlternativeName(names) if names else None
        cert = self._signed(subject, key.public_key(), extension, days)
        paths = folder / "tls.crt", folder / "tls.key"
        paths[0].write_bytes(_pem(cert))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _signed(
        self, subject: x509.Name, key, extension: x509.ExtensionType | None, days: float = 1.0
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


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


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)
