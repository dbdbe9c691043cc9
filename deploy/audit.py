"""Asks the package index whether what is locked has known vulnerabilities: `make audit`.

pip-audit says "none found" also of packages that the index does not know, as a mirror may not.
Where it can't be asked, this says so, and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (
    ROOT / "requirements-dev.txt",
    ROOT / "deploy/image/requirements.txt",
    ROOT / "deploy/image/requirements-gpu.txt",
)


def audit(locks: Iterable[Path]) -> list[dict[str, Any]]:
    """What pip-audit finds: a mapping for each package, with `vulns`, or with `skip_reason`.

    Raises:
        ConnectionError: nobody answers; says what pip-audit said last.
    """
    files = [option for lock in locks for option in ("--requirement", str(lock))]
    command = [
        "-m",
        "pip_audit",
        "--progress-spinner",
        "off",
        "--disable-pip",
        "--require-hashes",
        "--timeout",
        "5",
    ]
    done = subprocess.run(
        [sys.executable, *command, "--format", "json", *files], capture_output=True, text=True
    )
    if not done.stdout:
        raise ConnectionError((done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1])
    found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    return found


def first_of(lock: Path) -> str:
    """The first package of a lock file, with its hashes."""
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    end = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
    return "\n".join(lines[: end + 1]) + "\n"


def judge(found: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """A line for each vulnerability, and the packages that were not looked up."""
    bad, unknown = [], []
    for package in found:
        if "skip_reason" in package:
            unknown.append(package["name"])
        for each in package.get("vulns", ()):
            fixed = ", ".join(each["fix_versions"]) or "no version"
            bad.append(f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    return bad, unknown


def probe() -> None:
    """Looks one package up.

    Raises:
        ConnectionError: the index does not answer, or has no such facts.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as one:
        one.write(first_of(LOCKS[0]))
        one.flush()
        _, unknown = judge(audit([Path(one.name)]))
    if unknown:
        raise ConnectionError(f"it has no facts of {unknown[0]}")


def main() -> int:
    """The program; 1 if there are vulnerabilities, or packages that the index does not know."""
    try:
        probe()
        found = audit(LOCKS)
    except ConnectionError as error:
        click.echo(f"audit: skipped, the package index can't be asked: {error}")
        return 0
    bad, unknown = judge(found)
    for line in bad:
        click.echo(line)
    if unknown:
        click.echo(f"not known to the index: {', '.join(unknown)}")
    click.echo(f"audit: {len(found)} packages, {len(bad)} vulnerabilities")
    return 1 if bad or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
