"""Minutes of mixed and hostile traffic: flat memory, every RPC ends, every answer is right."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import grpc
import pytest

from tests.transport.conftest import ToyServer
from tests.waiting import PATIENCE, wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
GROWTH = 8 * 2**20
"""Bytes that the process may gain between a third of the time and its end."""


VICTIM = """
import grpc, sys, threading
channel = grpc.insecure_channel(sys.argv[1])
def forever():
    yield b"x" * 10_000
    print("sent", flush=True)
    threading.Event().wait()
calls = [channel.unary_unary("/toy/Hang").future(b"") for _ in range(20)]
calls += [channel.stream_stream(f"/toy/{m}")(forever()) for m in ("Chat", "Amplify", "HangStream")]
threading.Event().wait()
"""


class Soak:
    """Traffic against one server until its time is over."""

    def __init__(self, server: ToyServer) -> None:
        self.server = server
        self.over = threading.Event()
        self.answers = 0
        self.failures: list[BaseException] = []

    def run(self, seconds: float) -> None:
        """Runs all kinds of traffic side by side."""
        kinds = (self.unary, self.unary, self.failing, self.streams, self.abandoned, self.hostile)
        threads = [
            threading.Thread(target=self._repeat, args=(kind, random.Random(i)))
            for i, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _repeat(self, kind, dice: random.Random) -> None:
        try:
            while not self.over.is_set():
                kind(dice)
        except BaseException as error:
            self.failures.append(error)
            self.over.set()

    def unary(self, dice: random.Random) -> None:
        size = dice.choice((0, 10, 1000, 26_000, 200_000))
        data = dice.randbytes(size)
        assert self.server.unary("Echo", data) == data
        assert self.server.unary("EchoLater", b"0.001") == b"0.001"
        self.answers += 2

    def failing(self, dice: random.Random) -> None:
        for method, data in (("Fail", b"invalid"), ("Fail", b"overloaded"), ("Nothing", b"")):
            with pytest.raises(grpc.RpcError):
                self.server.unary(method, data)
        if dice.random() < 0.1:
            with pytest.raises(grpc.RpcError):
                self.server.unary("Echo", b"x" * (2**20 + 1))
        time.sleep(0.002)

    def streams(self, dice: random.Random) -> None:
        sent = [dice.randbytes(dice.choice((10, 26_000))) for _ in range(dice.randrange(50))]
        assert list(self.server.stream("Chat", iter(sent))) == sent
        self.answers += len(sent)
        answers = self.server.channel.unary_stream("/toy/Ticks")(b"5 0.001", timeout=PATIENCE)
        assert len(list(answers)) == 5

    def abandoned(self, dice: random.Random) -> None:
        """Deadlines that pass, and calls that are cancelled at any moment."""
        channel = self.server.channel
        calls = [
            channel.unary_unary("/toy/Hang").future(b"x" * 26_000, timeout=0.02),
            channel.unary_unary("/toy/EchoLater").future(b"0.01", timeout=0.01),
            channel.unary_unary("/toy/Echo").future(b"x" * 26_000),
            channel.stream_stream("/toy/Chat")(iter([b"x" * 26_000] * 10)),
            channel.stream_stream("/toy/Amplify")(iter([b"x"] * 100)),
        ]
        time.sleep(dice.random() * 0.01)
        for call in calls[1:]:
            call.cancel()
        assert calls[0].exception(PATIENCE).code() is grpc.StatusCode.DEADLINE_EXCEEDED

    def hostile(self, dice: random.Random) -> None:
        """Garbage, half-open connections and callers that are killed."""
        host, port = self.server.address.split(":")
        half_open = []
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
        for garbage in (dice.randbytes(1000), preface + dice.randbytes(100), preface, b""):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(garbage)
            half_open.append(connection)
        if dice.random() < 0.2:
            command = [sys.executable, "-c", VICTIM, self.server.address]
            victim = subprocess.Popen(command, stdout=subprocess.PIPE)
            victim.stdout.readline()
            os.kill(victim.pid, signal.SIGKILL)
            victim.communicate()
        time.sleep(0.2)
        for connection in half_open:
            if dice.random() < 0.5:  # a reset instead of an orderly end
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 60)
def test_soak(start):
    server = start("5")
    soak = Soak(server)
    sizes = []

    def watch() -> None:
        while not soak.over.wait(SECONDS / 30):
            sizes.append(server.journal()["rss"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    soak.run(SECONDS)
    watcher.join()

    def all_ended() -> bool:
        rpcs = server.journal()["rpcs"]
        finished = sum(count for name, count in rpcs.items() if name != "started")
        return rpcs["started"] - finished == 1  # the journal's own

    try:
        wait_until(all_ended)
    except AssertionError:
        print(server.journal(), server.log()[-3000:])
        raise
    megabytes = [round(size / 2**20, 1) for size in sizes]
    rpcs = server.journal()["rpcs"]
    print(f"{rpcs['started']} RPCs, {soak.answers} answers checked, RSS in MiB: {megabytes}")
    third = len(sizes) // 3
    assert max(sizes[-third:]) - max(sizes[:third]) < GROWTH, megabytes
