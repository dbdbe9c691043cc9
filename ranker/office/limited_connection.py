"""One HTTP connection, with the limits that uvicorn has not.

Whoever reaches the port may send anything, at any speed, over any number of
connections. None of it may hold up a scrape, or fill the memory or the log.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from ranker.certificate import names_in
from ranker.office.callers import with_connection
from ranker.office.paced_callers import Hold, Why, end

MOST_CONNECTIONS = 256
"""One more takes the place of the client that keeps the server waiting the longest."""

HEAD_BYTES = 16 * 2**10
"""Most bytes of a request's line and headers."""

HEAD_SECONDS = 10.0
"""A request's line and headers must have arrived so long after its first byte, or after the
connection's begin."""

TOTAL_SECONDS = 75.0
"""Its body must have arrived, and its answer have been read, so long after that."""

IDLE_SECONDS = 65
"""A connection without a request is closed after so long; most clients close theirs earlier."""

MOST_UNSENT_BYTES = 32 * 2**20
"""Of all answers that clients have not read. Above it the slowest of them are cut off."""

SEND_BUFFER_BYTES = 128 * 2**10
"""Of answers that the kernel holds for one connection; by itself it would take several MB."""

_PIECE_BYTES = 64 * 2**10
_SMALL_PIECE_BYTES = 2 * 2**10
"""What h11 gets at a time: of a plain body, and of all else. A few hundred chunks of a byte each
take it some ten milliseconds."""

_LAST = (h11.MUST_CLOSE, h11.CLOSED)
"""States of a client that has sent the connection's last request. It may send anything after it, an
empty line even, and still gets its answer: what comes then is for nobody."""

_ASKED = (h11.DONE, *_LAST)
"""States of a client that has sent all of a request."""

_RESET = struct.pack("ii", 1, 0)
"""A `SO_LINGER` that has the kernel forget what it holds, too."""


class LimitedConnection(H11Protocol):
    """A connection that uvicorn drives and this class bounds.

    Attributes:
        hold: ends when its request is held back no longer; None: it is not.
    """

    hold: Hold | None = None
    _is_cut_off = False
    _begun = 0.0
    _timer: asyncio.TimerHandle
    _feeding = False  # soon

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*arguments, **options)
        self._unread = bytearray()  # what has come, and is not for h11 yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; if there are too many, another one goes."""
        others = self._others() if len(self.connections) >= MOST_CONNECTIONS else []
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        self.app = with_connection(self.app, self, _certified_names(transport))
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._begin()
        if len(others) >= MOST_CONNECTIONS:
            waited_for = [other for other in others if other.waits_for_client]
            min(waited_for, key=lambda other: other._begun, default=self).cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._timer.cancel()
        self._unread.clear()
        if self.hold is not None:
            end(self.hold, Why.GONE)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; h11 gets them piece by piece.

        It takes whatever it is given: any number of requests that a client sends before their
        answers, and each chunk of a body, which may have one byte, in one turn of the loop.
        """
        if self._idle:
            self._begin()
        self._unread += data
        if not self._feeding:
            self._feed()

    def feed_soon(self) -> None:
        """Has h11 get the next piece, after all else that there is to do."""
        if self._unread and not self._feeding:
            self._feeding = True
            self.loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._feeding = False
        if self.transport.is_closing():
            self._unread.clear()
        while self._unread and self._takes_more:
            size = _PIECE_BYTES if self._in_plain_body else _SMALL_PIECE_BYTES
            piece = bytes(self._unread[:size])
            del self._unread[:size]
            super().data_received(piece)
            if not self._in_plain_body:
                break
        if self.conn.their_state in _LAST:
            self._unread.clear()
        elif self._idle and self.timeout_keep_alive_task is None:
            self._rest()  # what has come is the rest of a body whose answer has left
        if not self._unread:
            if not self.flow.read_paused:
                self.transport.resume_reading()
            return
        self.transport.pause_reading()
        if self._takes_more:
            self.feed_soon()

    @property
    def _takes_more(self) -> bool:
        """Whether h11 should get more: not before the request that it has is answered."""
        return not self.flow.read_paused and self.conn.their_state not in _ASKED

    @property
    def _in_plain_body(self) -> bool:
        """Whether what comes next is a body that is not in chunks, which costs h11 little."""
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers or ())
        return self.conn.their_state is h11.SEND_BODY and not chunked

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP: says so, unless an answer is under way."""
        if self.cycle is not None:
            # Whatever an application still sends has nowhere to go.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.cut_off()

    def on_response_complete(self) -> None:
        """An answer has been given to the transport."""
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is not answered:  # the next request had already come
            self._begin()
        elif self._idle:
            self._timer.cancel()
        self.feed_soon()
        self._cut_off_slow_readers()

    def cut_off(self) -> None:
        """Ends the connection at once, whatever is still unsent."""
        self._is_cut_off = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    @property
    def waits_for_client(self) -> bool:
        """Whether the next step is the client's: to send a request, or to read an answer.

        One that is over its quota is to wait: others need not go for it.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body or self.unsent > 0:
            return True
        return self.hold is not None

    @property
    def unsent(self) -> int:
        """The bytes of answers that the client has not read."""
        return self.transport.get_write_buffer_size()

    @property
    def _idle(self) -> bool:
        """Whether all that came has been answered, and the answers read."""
        if self.cycle is None or self.unsent or self._unread:
            return False
        between_requests = self.conn.our_state is self.conn.their_state is h11.IDLE
        return between_requests and not self.conn.trailing_data[0]

    def _rest(self) -> None:
        """The client may send another request, and has some time for that."""
        self._timer.cancel()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _begin(self) -> None:
        """A request begins, as far as one can see: the time that it may take runs."""
        if self._begun:
            self._timer.cancel()
        self._begun = self.loop.time()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._on_head_due)

    def _on_head_due(self) -> None:
        waits_for_head = self.conn.their_state is h11.IDLE and not self.unsent
        if waits_for_head and not self._idle:
            self.transport.close()
        else:
            left = self._begun + TOTAL_SECONDS - self.loop.time()
            self._timer = self.loop.call_later(left, self._on_answer_due)

    def _on_answer_due(self) -> None:
        if not self._idle:
            self.cut_off()
        elif self.timeout_keep_alive_task is None:
            self._rest()

    def _others(self) -> list[LimitedConnection]:
        """All connections but those that are about to end, and wait for nobody to read."""
        return [
            other
            for other in self.connections
            if isinstance(other, LimitedConnection)
            and not other._is_cut_off
            and (other.unsent or not other.transport.is_closing())
        ]

    def _cut_off_slow_readers(self) -> None:
        slow = sorted(
            (other for other in self._others() if other.unsent), key=lambda other: other._begun
        )
        total = sum(other.unsent for other in slow)
        for other in slow:
            if total <= MOST_UNSENT_BYTES:
                break
            total -= other.unsent
            other.cut_off()


class _Flow(FlowControl):
    """uvicorn's, which reads from the connection again only if nothing of it waits for h11."""

    def __init__(self, transport: asyncio.Transport, connection: LimitedConnection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if self._connection._unread:
            self.read_paused = False
            self._connection.feed_soon()
        else:
            super().resume_reading()


def _certified_names(transport: asyncio.Transport) -> tuple[str, ...]:
    """The names in the certificate that a client has shown; none without one."""
    secured = transport.get_extra_info("ssl_object")
    shown = secured.getpeercert(binary_form=True) if secured is not None else None
    return names_in(ssl.DER_cert_to_PEM_cert(shown).encode()) if shown else ()
