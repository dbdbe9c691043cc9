"""How a client knows its server, and is known by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True)
class Tls:
    """TLS for a client's connections. The files are read when the client is made.

    Attributes:
        ca: path of the authorities in PEM, one of which must have signed the server's
            certificate; None: those that gRPC comes with, of the public web.
        cert: path of the client's own certificate in PEM, for servers that ask for one.
        key: path of its key.
        server_name: what the server's certificate is for; empty: the host that is connected to.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if bool(self.cert) != bool(self.key):
            raise ValueError("tls: expected cert and key, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel.

        Raises:
            OSError: a file can't be read.
        """
        import grpc

        ca, key, cert = (_read(path) for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Channel arguments."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def _read(path: str | Path | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
