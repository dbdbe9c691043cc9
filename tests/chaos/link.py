"""Faults of the network between callers and a port of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.end_to_end import http2


class Drop:
    """Drops TCP packets to and from a port while it is in force.

    Args:
        port: of the loopback interface.
        share: the part of the packets, by chance.
    """

    def __init__(self, port: int, share: float = 1.0) -> None:
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
        ends = ("--dport", "--sport")
        self._rules = [
            ("INPUT", "-i", "lo", "-p", "tcp", end, str(port), *(chance if share < 1 else ()))
            for end in ends
        ]
        self._port = port

    def dropped(self) -> int:
        """How many packets so far."""
        listed = _iptables("-L", "INPUT", "-v", "-x", "-n").splitlines()
        own = [line.split() for line in listed if line.split()[2:3] == ["DROP"]]
        return sum(int(words[0]) for words in own if f"pt:{self._port}" in " ".join(words))

    def __enter__(self) -> Drop:
        for rule in self._rules:
            _iptables("-A", *rule, "-j", "DROP")
        return self

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            _iptables("-D", *rule, "-j", "DROP")


def _iptables(*arguments: str) -> str:
    return subprocess.run(
        ["iptables", "-w", *arguments], check=True, capture_output=True, text=True
    ).stdout


@contextmanager
def unread_streams(address: str, message: bytes, number: int, each: int) -> Iterator[list[int]]:
    """Streams that ask and never read, each on a connection of its own, until the end.

    Yields:
        How many messages each has got rid of.
    """
    with ExitStack() as held:
        sent = []
        for _ in range(number):
            reader = held.enter_context(http2.Connection(address))
            head = http2.call(http2.STREAM)
            reader.send(http2.frame(http2.HEADERS, 1, head, http2.END_HEADERS))
            got_rid = 0
            while got_rid < each and reader.send_message(1, message, seconds=0.2):
                got_rid += 1
            sent.append(got_rid)
        yield sent
