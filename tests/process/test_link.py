"""What the supervisor and its processes say to each other, and how each sees the other's end."""

from __future__ import annotations

import os
import resource
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ranker.process.link import Link, receive, send, socket_pair


def test_messages_and_files_arrive_whole_and_in_order():
    ours, theirs = socket_pair()
    link = Link(theirs.detach())
    read, write = os.pipe()
    os.write(write, b"a model")
    send(ours, {"model": 1}, [read])
    send(ours, {"prepare": 2})
    first, second = link.hear(), link.hear()
    assert (first.facts, second.facts, second.files) == ({"model": 1}, {"prepare": 2}, [])
    [copy] = first.files
    assert copy != read
    assert os.read(copy, 10) == b"a model"
    link.say({"prepared": 2})
    assert receive(ours).facts == {"prepared": 2}
    ours.close()
    assert link.hear() is None
    link.say({"to": "nobody"})


def test_a_message_that_is_longer_than_a_packet_arrives_whole():
    ours, theirs = socket_pair()
    link = Link(theirs.detach())
    read, write = os.pipe()
    os.write(write, b"a model")
    facts = {"wanted": ["a version with a long name " * 10] * 2000}
    before = len(os.listdir("/proc/self/fd"))
    send(ours, facts, [read])
    message = link.hear()
    assert message.facts == facts
    [copy] = message.files
    assert os.read(copy, 10) == b"a model"
    os.close(copy)
    link.say(facts)
    assert receive(ours).facts == facts
    assert len(os.listdir("/proc/self/fd")) == before


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_long_message_waits_until_there_is_a_descriptor_for_it():
    """It ended the server, or the worker, whose callers had all of its descriptors."""
    ours, theirs = socket_pair()
    facts = {"wanted": ["a version with a long name " * 10] * 2000}
    send(ours, facts)
    send(ours, {"switch": 1})
    with no_descriptor_free(), pytest.raises(BlockingIOError):
        receive(theirs)
    assert receive(theirs).facts == facts
    assert receive(theirs).facts == {"switch": 1}


def test_a_worker_without_a_descriptor_hears_a_long_message_later(monkeypatch):
    ours, theirs = socket_pair()
    facts = {"wanted": ["a version with a long name " * 10] * 2000}
    send(ours, facts)
    with ExitStack() as stack:
        stack.enter_context(no_descriptor_free())
        monkeypatch.setattr("time.sleep", lambda _: stack.close())
        assert Link(theirs.detach()).hear().facts == facts


@pytest.mark.parametrize("heard", [True, False])
def test_a_process_gets_a_signal_once_its_supervisor_is_gone(monkeypatch, heard):
    signals: deque[tuple[int, int]] = deque()
    ended = []
    monkeypatch.setattr(os, "kill", lambda *arguments: signals.append(arguments))
    monkeypatch.setattr("threading.Thread.start", lambda thread: ended.append(thread))
    ours, theirs = socket_pair()
    link = Link(theirs.detach())
    link.ready({})
    if heard:
        receive(ours)
    ours.close()
    link.listen()
    ended[0].run()
    assert list(signals) == [(os.getpid(), signal.SIGTERM)]


def test_a_process_that_can_hear_no_more_ends(monkeypatch):
    signals: deque[tuple[int, int]] = deque()
    threads = []
    monkeypatch.setattr(os, "kill", lambda *arguments: signals.append(arguments))
    monkeypatch.setattr("threading.Thread.start", lambda thread: threads.append(thread))
    ours, theirs = socket_pair()

    def bug(_message: object) -> None:
        raise ValueError("a bug")

    Link(theirs.detach()).listen(bug)
    send(ours, {"switch": 1})
    with pytest.raises(ValueError, match="a bug"):
        threads[0].run()
    assert list(signals) == [(os.getpid(), signal.SIGTERM)]
    ours.close()


def test_the_last_words_are_heard_of_one_that_did_not_read_all():
    ours, theirs = socket_pair()
    send(ours, {"switch": 1})
    Link(theirs.detach()).failed("no room")  # and it is closed
    assert receive(ours).facts == {"failed": "no room"}
    assert receive(ours) is None
