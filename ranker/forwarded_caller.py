"""For whom the office asks a worker: what it has seen of an HTTP request's caller.

It travels as metadata of the call, together with a secret that the server's own processes alone
know: they inherit it in their environment, which other users of the machine can't read. So nobody
else can speak for a caller, whatever metadata they send and whichever socket they reach.
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import NamedTuple, Self
from urllib.parse import quote

from ranker.rpc import Metadata

KEY = "ranker-forwarded-caller"
"""Of the metadata."""

_VARIABLE = "_RANKER_OFFICE_SECRET"

_OFFICE = "office"

_READ, _WAITED = "read", "waited"


def prepare() -> None:
    """Makes the secret, for the processes that are started from now on."""
    os.environ[_VARIABLE] = secrets.token_hex(32)


class ForwardedCaller(NamedTuple):
    """Who has asked the office over HTTP.

    Attributes:
        connection: the caller's address and port.
        name: the one of its names that may call, or else any of them; empty: it has none.
        has_waited: it is over its quota, and its request has waited for as long as one may: a
            worker is asked to refuse it.
        draw: if the request has no unit, and its version is drawn: in place of a unit, what decides
            the draw; empty: chance. For an office that has to know the version beforehand.
    """

    connection: str
    name: str = ""
    has_waited: bool = False
    draw: str = ""

    @property
    def is_office(self) -> bool:
        """Whether the office asks on its own account."""
        return self.connection == _OFFICE

    @property
    def peer(self) -> str:
        """The connection, named as gRPC names its own: `ipv4:10.0.0.7:1`, `ipv6:%5B::1%5D:1`."""
        host, _, port = self.connection.rpartition(":")
        if ":" not in host:
            return f"ipv4:{host}:{port}"
        return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What to send along; nothing if the server has no secret."""
        secret = os.environ.get(_VARIABLE)
        waited = _WAITED if self.has_waited else _READ
        said = (
            f"{secret} {self.connection} {waited} {self.draw} {self.name}"  # a name may have spaces
        )
        return ((KEY, said),) if secret else ()

    @classmethod
    def read(cls, metadata: Metadata) -> Self | None:
        """Whom the office asks for; None if it is not the office that asks."""
        secret = os.environ.get(_VARIABLE)
        said = next((value for key, value in metadata if key == KEY), None)
        if not secret or not isinstance(said, str):
            return None
        shown, _, rest = said.partition(" ")
        if not hmac.compare_digest(shown.encode(), secret.encode()):
            return None
        connection, _, rest = rest.partition(" ")
        waited, _, rest = rest.partition(" ")
        draw, _, name = rest.partition(" ")
        return cls(connection, name, waited == _WAITED, draw)


OFFICE = ForwardedCaller(_OFFICE)
"""The office itself."""
