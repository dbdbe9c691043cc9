"""A process that the supervisor has started."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ranker.process.link import Message, receive, send, socket_pair
from ranker.process.shared_files import SharedFiles


def _how_to_begin() -> tuple[str, ...]:
    """How Python is to run a program of ours.

    By itself `-m` has modules looked for first in the folder that the server was started in, which
    may be anybody's; so it does not (`-P`), unless this process looks there, too.
    """
    program = ("-m", "ranker.process.program")
    try:
        here = sys.path[0] in ("", os.getcwd())
    except OSError:  # that folder is gone
        here = False
    return program if here else ("-P", *program)


_BEGIN = _how_to_begin()

_NOT_NOW = (errno.EAGAIN, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE)
"""Why nothing can be said now, and later it can: the process reads no faster; for a user who is not
root, more files are on their way to processes than one may have open (unix(7)); or a long message
needs a file, and there is no descriptor for one."""

TELLS = hasattr(fcntl, "F_SETSIG")
"""Whether a process that says something makes this one get a SIGCHLD, as one that ends does; see
`O_ASYNC` in fcntl(2). Linux alone can."""


def _have_told(fd: int) -> None:
    """Has the kernel send this process a SIGCHLD whenever there is something to receive."""
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGCHLD)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


def _state_and_more(path: Path) -> list[str]:
    """The fields of a `stat` file in /proc, from the third on: the second may hold anything."""
    return path.read_text().rpartition(")")[2].split()


class Exit(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code, or, below zero, the number of the signal that killed it.
        cpu_seconds: its user and system CPU time.
    """

    code: int
    cpu_seconds: float

    def __str__(self) -> str:
        if self.code < 0:
            return signal.Signals(-self.code).name
        return f"exit code {self.code}"


class Child:
    """Starts a Python module as a process, with a connection to it (`ranker.process.link`).

    Args:
        module: which; it has a function `main` (`ranker.process.program`).
        arguments: its arguments; the descriptor of the connection comes first.
        descriptors: what it inherits.

    Attributes:
        pid: its process id.

    Raises:
        OSError: the system has no process or descriptor to spare.
    """

    def __init__(self, module: str, arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        self._link, theirs = socket_pair()
        self._link.setblocking(False)
        if TELLS:
            with contextlib.suppress(OSError):  # a sandbox that can't: each tick looks for it
                _have_told(self._link.fileno())
        self._unsaid: deque[tuple[Mapping[str, Any], SharedFiles | None]] = deque()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *_BEGIN, module, str(theirs.fileno()), *arguments],
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
                )
            except OSError:
                self._link.close()
                raise
        self.pid = self._process.pid

    def say(self, facts: Mapping[str, Any], files: SharedFiles | None = None) -> None:
        """Says something, after what it has not taken yet; see `flush`.

        Args:
            facts: what.
            files: go with it; they are held until then.
        """
        self._unsaid.append((facts, files and files.hold()))
        self.flush()

    def flush(self) -> None:
        """Says what it could not take before, as far as it can now."""
        while self._unsaid:
            facts, files = self._unsaid[0]
            try:
                send(self._link, facts, files.fds if files else ())
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has ended
            except OSError as error:
                if error.errno in _NOT_NOW:
                    return
                raise
            self._unsaid.popleft()
            if files is not None:
                files.release()

    def messages(self) -> list[Message]:
        """What it has said since the last time, also after its end."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while (message := receive(self._link)) is not None:
                found.append(message)
        return found

    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:
                return None
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._cpu_seconds = usage.ru_utime + usage.ru_stime
        return Exit(self._process.returncode, self._cpu_seconds)

    def seconds_without_core(self) -> float:
        """How long its main thread had work to do in all, and no core to do it on.

        The second number of /proc/PID/schedstat (sched-stats in the kernel's documentation). 0 on a
        system that has no such file, and once the process has ended.
        """
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0

    def seconds_used(self) -> float:
        """How much CPU time all its threads have had; 0 where that can't be known."""
        try:
            ticks = sum(map(int, _state_and_more(Path(f"/proc/{self.pid}/stat"))[11:13]))
        except (OSError, ValueError):
            return 0.0
        return ticks / os.sysconf("SC_CLK_TCK")

    def states(self) -> str:
        """A letter for each of its threads, the main one first: what it does just now.

        As proc_pid_stat(5) lists them: `R` runs, or would if it had a core; `S` sleeps until
        something happens; `D` is blocked in the kernel, by a disk most of all; `T` is stopped.
        Empty on a system that does not tell, and once the process has ended.
        """
        found = []
        for thread in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # that thread has ended
                found.append((thread.parent.name != str(self.pid), _state_and_more(thread)[0]))
        return "".join(state for _, state in sorted(found))

    def sleeps_in(self) -> str:
        """The kernel's function that its main thread sleeps in; empty if that can't be known."""
        try:
            name = Path(f"/proc/{self.pid}/wchan").read_text()
        except OSError:
            return ""
        return "" if name == "0" else name

    def set_niceness(self, niceness: int) -> None:
        """Has it go behind others for a core; see setpriority(2). Call it before it has threads."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, self.pid, niceness)

    def set_idle(self) -> bool:
        """Has it run only while a core is idle, or nearly so; see SCHED_IDLE in sched(7).

        There is no way back without privileges.

        Returns:
            Whether the system lets it.
        """
        try:
            os.sched_setscheduler(self.pid, os.SCHED_IDLE, os.sched_param(0))
        except ProcessLookupError:  # it has ended
            return True
        except OSError:
            return False
        return True

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.exit() is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kills it if it still runs, and forgets it."""
        if self.exit() is None:
            self._process.kill()
            self._process.wait()
        self._link.close()
