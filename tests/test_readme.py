"""README's tables say what the code says. `python -m tests.test_readme` rewrites them."""

from __future__ import annotations

from pathlib import Path

import click

from ranker.cli.serve import serve
from ranker.metrics import catalogue as catalog

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- flags:begin -->\n", "<!-- flags:end -->"


def flags_table() -> str:
    lines = ["| flag | default | |", "|---|---|---|"]
    for option in serve.params:
        if isinstance(option, click.Option):
            kind = option.type
            choices = f" `{'`, `'.join(kind.choices)}`." if isinstance(kind, click.Choice) else ""
            lines.append(f"| `{option.opts[0]}` | {option.default} | {option.help}{choices} |")
    return "\n".join(lines) + "\n"


def with_flags(text: str) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + flags_table() + END + rest.split(END)[1]


def test_the_flags_are_the_commands():
    text = README.read_text()
    assert text == with_flags(text)


def test_the_metrics_are_the_catalogues():
    text = README.read_text()
    assert text == catalog.embed(text)


if __name__ == "__main__":
    README.write_text(catalog.embed(with_flags(README.read_text())))
