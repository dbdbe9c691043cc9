"""A network, and mounts, that only this program and what it starts can see."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import click

_PROGRAMS = ("unshare", "ip", "iptables")
_INSIDE = "CHAOS_NAMESPACE"
_ENTER = ("unshare", "--net", "--mount")


def missing() -> str:
    """What this machine lacks for it; empty if it has all."""
    if not sys.platform.startswith("linux"):
        return "Linux"
    if os.geteuid() != 0:
        return "root, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN for example"
    if lacking := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"the programs {', '.join(lacking)}"
    tried = "ip link set lo up && iptables -A INPUT -m statistic --mode random --probability 0"
    done = subprocess.run(command(["sh", "-c", tried]), capture_output=True, text=True)
    why = f"namespaces, and iptables with its match `statistic`: {done.stderr.strip()}"
    return why if done.returncode else ""


def command(program: Sequence[str]) -> list[str]:
    """What runs a program in new namespaces."""
    return [*_ENTER, *program]


def enter() -> None:
    """Has this program go on from its beginning in new namespaces, unless it is in them already.

    Raises:
        click.ClickException: this machine can't do so; says what it lacks.
    """
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if lacking := missing():
        raise click.ClickException(f"needs {lacking}")
    sys.stdout.flush()
    os.environ[_INSIDE] = "1"
    os.execvp(_ENTER[0], command([sys.executable, *sys.orig_argv[1:]]))
