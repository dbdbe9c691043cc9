"""Every link from one page to another leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(p for d in ("docs", "deploy", "examples") for p in (ROOT / d).rglob("*.md")),
    )
    if "node_modules" not in path.parts
)


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link}: outside of the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_style_exist(page):
    """`ranker/client/channel.py` and the like, in the words of a page."""
    tops = r"(?:benchmarks|demo|deploy|docs|examples|exporters|loadtests|protos|ranker|tests)"
    for path in re.findall(rf"`({tops}/[\w./-]+)`", prose(page.read_text())):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short_and_links_every_page_of_docs():
    readme = ROOT / "README.md"
    words = subprocess.run(["wc", "-w", readme], capture_output=True, text=True, check=True)
    assert int(words.stdout.split()[0]) <= 1300
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    assert set((ROOT / "docs").rglob("*.md")) - linked == set()
