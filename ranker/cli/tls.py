"""The options of the commands that ask a server: how it is known, and they by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as `tls`, None for plain HTTP/2."""

    @click.option("--tls", "wanted", is_flag=True, help="Connect by TLS; the next four imply it.")
    @click.option(
        "--tls-ca",
        "ca",
        type=_FILE,
        help="Authorities in PEM that may have signed the server's certificate.",
        show_default="those of the public web",
    )
    @click.option("--tls-cert", "cert", type=_FILE, help="The caller's own certificate in PEM.")
    @click.option("--tls-key", "key", type=_FILE, help="Its key.")
    @click.option(
        "--tls-server-name",
        "server_name",
        default="",
        help="What the server's certificate is for.",
        show_default="the host that is connected to",
    )
    @wraps(command)
    def with_tls(
        *,
        wanted: bool,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        server_name: str,
        **values: Any,
    ) -> Any:
        if bool(cert) != bool(key):
            raise click.UsageError("expected --tls-cert and --tls-key, or neither")
        from ranker.client.tls import Tls

        used = wanted or ca or cert or server_name
        return command(tls=Tls(ca, cert, key, server_name) if used else None, **values)

    return with_tls
