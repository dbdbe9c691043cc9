"""What pip installs: the distribution's name, and which modules its extras bring.

The base installs the clients and the command; the server and the export are extras
(CONTRIBUTING.md says why). A part that needs an extra calls `require` before it imports
anything of it, so that a user reads which command helps.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

NAME = "tree-ranker"
"""The distribution's name, which is not the import name: another project has `ranker`."""

MODULES = {
    "serve": (
        "google_crc32c",
        "grpc_reflection",
        "onnx",
        "onnxruntime",
        "prometheus_client",
        "psutil",
        "pydantic",
        "ruamel",
        "starlette",
        "uvicorn",
    ),
    "export": ("onnx", "onnxruntime", "xgboost"),
    "log": ("pyarrow",),
    "remote": ("obstore",),
    "quality": ("jinja2", "matplotlib", "onnx", "onnxruntime", "pyarrow"),
}
"""By extra: the top-level modules without which what it is for does not work."""


class MissingExtraError(ImportError):
    """An extra is needed that is not installed; the message has the command that installs it."""


def version(*names: str) -> str:
    """The version that is installed, without importing anything of it.

    Args:
        names: of distributions that stand in for each other: the first that is there counts.
            None: our own.
    """
    from importlib import metadata

    for name in names or (NAME,):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    raise metadata.PackageNotFoundError(" or ".join(names))


def require(extra: str) -> None:
    """Checks that an extra is installed, without importing anything of it.

    Args:
        extra: one of `MODULES`.

    Raises:
        MissingExtraError: a module of the extra can't be found.
    """
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"{', '.join(missing)}: not installed; run: pip install '{NAME}[{extra}]'"
        )
