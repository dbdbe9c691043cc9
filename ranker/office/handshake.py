"""What an HTTP connection is until its TLS handshake is done, with limits that asyncio has not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

MOST_HANDSHAKES = 64
"""Under way at a time; one more takes the place of the oldest. Each holds a descriptor and some
100 KB, and takes a millisecond or two unless its client is slow."""

HANDSHAKE_SECONDS = 10.0
"""A handshake must be done so long after the connection's begin."""


class Handshakes:
    """Has connections secured before they are served.

    Args:
        context: what it returns is for the next handshake.
        make: makes the protocol that serves a secured connection.

    Attributes:
        under_way: the handshakes that are not done, in the order of their beginning.
    """

    def __init__(
        self, context: Callable[[], ssl.SSLContext], make: Callable[..., asyncio.Protocol]
    ) -> None:
        self.under_way: dict[Handshake, None] = {}
        self.context = context
        self._make = make

    def __call__(self, **options: object) -> asyncio.Protocol:
        """A protocol for a connection that comes; with what uvicorn gives one that serves."""
        return Handshake(self, lambda: self._make(**options))


class Handshake(asyncio.Protocol):
    """A connection that is to be secured.

    Args:
        all_of_them: those that are under way.
        make: makes the protocol that takes over.
    """

    def __init__(self, all_of_them: Handshakes, make: Callable[[], asyncio.Protocol]) -> None:
        self._all = all_of_them
        self._make = make
        self._early: list[bytes] = []  # what came with the handshake's end
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come; if there are too many, the oldest one goes."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())
        under_way = self._all.under_way
        under_way[self] = None
        if len(under_way) > MOST_HANDSHAKES:
            next(iter(under_way)).cut_off()

    def cut_off(self) -> None:
        """Ends the connection at once."""
        del self._all.under_way[self]
        self._task.cancel()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """The connection is secured, and the protocol that is to serve it not there yet."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has gone."""
        self._lost = True

    async def _shake_hands(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self._transport,
                self,
                self._all.context(),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError:  # it is no TLS, it took too long, or the client has gone
            self._transport.abort()
            return
        finally:
            self._all.under_way.pop(self, None)
        if secured is None or self._lost:
            return
        protocol = self._make()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        for data in self._early:
            protocol.data_received(data)
