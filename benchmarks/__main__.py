"""`python -m benchmarks NAME [OPTIONS]` measures; without a name, it lists what can be measured."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}


def about(name: str) -> str:
    """What a benchmark measures, in a line, without importing what it needs."""
    text = ast.get_docstring(ast.parse(FILES[name].read_text())) or ""
    return text.partition("\n")[0]


if __name__ == "__main__":
    name, *options = sys.argv[1:] or [""]
    if name in FILES:
        main = importlib.import_module(f"benchmarks.{name}").main
        main(options, prog_name=f"python -m benchmarks {name}")
    print(
        'make bench NAME=server ARGS="--rounds 1"; ARGS=--help says what it is, and what it needs.'
    )
    print(*(f"  {each:10} {about(each)}" for each in FILES), sep="\n")
    sys.exit(f"no benchmark {name!r}" if name else 0)
