"""Bodies of requests: what type they are, how large each may be, and all together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ranker.errors import OverloadedError
from ranker.office.paced_callers import CONNECTION, Holding

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
OCTETS = "application/octet-stream"

MOST_BYTES = {JSON: 2 * 2**20, PROTOBUF: 8 * 2**20, OCTETS: 8 * 2**20}
"""Of one body, by its type. JSON is read on the office's loop, which does nothing else meanwhile:
hostile JSON of this size takes it about half a second of processor time."""

MOST_BYTES_IN_ALL = 32 * 2**20
"""Of all bodies that have arrived, or do, and are not answered."""


_ARRIVAL_SECONDS = 2.0
"""A body that takes longer to arrive goes when there is no room for another."""


class Arriving(NamedTuple):
    """A body that is not all there.

    Attributes:
        connection: it comes on; None: that is not known.
        since: when it began, by the monotonic clock.
    """

    connection: Holding | None
    since: float


class Bodies:
    """Reads the bodies of requests, as many at a time as there is room for."""

    def __init__(self) -> None:
        self._reading = asyncio.Lock()
        self._held = 0
        self._arriving: dict[Body, Arriving] = {}  # in the order in which they began

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold it to understand a body, which may take the loop a second.

        Between any two of them the loop does everything else that there is to do.
        """
        async with self._reading:
            try:
                yield
            finally:
                await asyncio.sleep(0)

    @contextmanager
    def arriving(self, body: Body, request: Request) -> Iterator[None]:
        """While a body arrives."""
        self._arriving[body] = Arriving(request.scope.get(CONNECTION), time.monotonic())
        try:
            yield
        finally:
            del self._arriving[body]

    @contextmanager
    def room(self) -> Iterator[Body]:
        """Room for one body, until its request has been answered."""
        body = Body(self)
        try:
            yield body
        finally:
            self._held -= body.held

    def take(self, number: int) -> None:
        """Holds so many more bytes.

        Raises:
            OverloadedError: there is no room for them.
        """
        if self._held + number > MOST_BYTES_IN_ALL:
            self._cut_off_the_slowest()
            raise OverloadedError("the bodies of other requests leave no room for this one", 1.0)
        self._held += number

    def _cut_off_the_slowest(self) -> None:
        """Ends the connection whose body has taken longest to arrive, if that is long."""
        slowest = next(iter(self._arriving.values()), None)
        if slowest is None or slowest.connection is None:
            return
        if time.monotonic() > slowest.since + _ARRIVAL_SECONDS:
            slowest.connection.cut_off()


class Body:
    """One request's body, and the room that it takes.

    Attributes:
        held: the bytes that it takes of what there is for all.
    """

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.held = 0

    async def read(self, request: Request, kind: str) -> bytes:
        """All of it.

        Args:
            request: whose body it is.
            kind: its type.

        Raises:
            HTTPException: 413, it is larger than one may be.
            OverloadedError: others leave no room for it.
        """
        most = MOST_BYTES[kind]
        if int(request.headers.get("content-length", 0)) > most:
            raise _too_large(kind)
        pieces = bytearray()
        with self._bodies.arriving(self, request):
            async for piece in request.stream():
                if len(pieces) + len(piece) > most:
                    raise _too_large(kind)
                self.hold(len(piece))
                pieces += piece
        return bytes(pieces)

    def hold(self, number: int) -> None:
        """Takes room for so many more bytes; raises OverloadedError if there is none."""
        self._bodies.take(number)
        self.held += number


def media_type(request: Request, *expected: str) -> str:
    """The type of a request's body.

    Raises:
        HTTPException: 415, it is none of the expected ones, or is packed, or not UTF-8.
    """
    found, *parameters = request.headers.get("content-type", "").lower().split(";")
    found = found.strip()
    pairs = [each.partition("=") for each in parameters]
    charsets = {value.strip().strip('"') for name, _, value in pairs if name.strip() == "charset"}
    if found not in expected or (found == JSON and not charsets <= {"utf-8", "utf8"}):
        wanted = " or ".join(expected)
        raise HTTPException(
            415,
            f"expected a body of type {wanted} in UTF-8, got "
            f"{request.headers.get('content-type', 'none')!r}",
            {"Accept-Post": ", ".join(expected)},
        )
    check_coding(request)
    return found


def check_coding(request: Request) -> None:
    """Raises HTTPException, 415, if a body is packed."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise HTTPException(
            415, f"expected a body as it is, got one in {coding!r}", {"Accept-Encoding": "identity"}
        )


def _too_large(kind: str) -> HTTPException:
    # The rest is read, and dropped: most clients read no answer before they have sent all.
    limits = " and ".join(f"one of type {each} {most} bytes" for each, most in MOST_BYTES.items())
    return HTTPException(
        413,
        f"the body of type {kind} is too large: {limits} at most; send larger lists over gRPC",
    )
