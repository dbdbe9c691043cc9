"""The status page in a browser: that it shows and ranks, whoever uses it, however."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

from ranker.client import RankerClient
from ranker.export import export_onnx
from tests.end_to_end.conftest import NAMES, RunningServer
from tests.waiting import PATIENCE, wait_until

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; CHROMIUM says where")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "books.onnx"
    export_onnx(truth.booster, path, name="books", version="7", reference=truth.rows)
    running = RunningServer(folder / "server.log", str(path))
    yield running
    assert running.stop() == 0


@pytest.fixture
def open_page(browser, server):
    """Opens the page; it must have nothing to complain of, but that a request is refused."""
    contexts, complaints = [], list[str]()

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.http_port}/")
        page.wait_for_selector("#model option", state="attached")
        page.wait_for_selector("#traffic svg")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [each for each in complaints if "status of 400" not in each] == []


def test_a_list_is_ranked_as_xgboost_does(open_page, truth):
    page, rows = open_page(), truth.rows[:20]
    lines = [",".join(("id", *NAMES))]
    for number, row in enumerate(rows):
        fields = ("" if np.isnan(value) else repr(float(value)) for value in row)
        lines.append(",".join((f'"book, {number}"', *fields)))
    page.fill("#candidates", "\n".join(lines))
    page.fill("#top-k", "5")
    page.click("#try [type=submit]")
    page.wait_for_selector("#ranking-body tr")
    best = np.argsort(-truth.scores(rows), kind="stable")[:5]
    shown = page.locator("#ranking-body th").all_inner_texts()
    assert shown == [f"book, {number}" for number in best]
    candidates = page.locator("#ranking-body tr:not(.why)").all_inner_texts()
    scores = [float(row.split("\t")[2]) for row in candidates]
    assert scores == pytest.approx(truth.scores(rows)[best], rel=1e-5)
    for why, score in zip(page.locator("#ranking-body .why").all(), scores, strict=True):
        why.locator("details").evaluate("details => { details.open = true; }")
        added = why.locator("li .number").all_inner_texts()
        margin = sum(float(text.replace("\N{MINUS SIGN}", "-")) for text in added)
        assert margin == pytest.approx(score, abs=0.01)
        assert why.locator("li rect").count() == len(added)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("feature_0,feature_1\n1,x", "line 2: feature_1: x is not a number", id="word"),
        pytest.param("feature_0,feature_1\n1", "line 2 has 1 fields", id="short-line"),
        pytest.param("[{]", "JSON", id="broken-json"),
        pytest.param("no_such\n1", "no_such", id="unknown-feature"),
    ],
)
def test_a_wrong_list_is_said_to_be_wrong(open_page, text, said):
    page = open_page()
    page.fill("#candidates", text)
    page.click("#try [type=submit]")
    page.wait_for_selector("#try-state.bad")
    assert said in page.inner_text("#try-state")


def test_an_example_can_be_ranked(open_page):
    page = open_page()
    page.click("#example")
    wait_until(lambda: page.input_value("#candidates"))
    page.click("#try [type=submit]")
    page.wait_for_selector("#ranking-body tr")
    assert page.locator("#ranking-body tr:not(.why)").count() == 8


@pytest.mark.slow
def test_what_has_drifted_stands_first(open_page, server, truth):
    page, limit = open_page(), time.monotonic() + PATIENCE
    rows = truth.rows.copy()
    rows[:, 5] = np.nan
    worst = page.locator("#drift tbody tr").first
    with RankerClient(server.address, timeout=PATIENCE) as client:
        for start in range(10**6):
            assert time.monotonic() < limit
            client.rank(rows[start % 100 * 30 :][:30])
            page.wait_for_timeout(20)
            if start % 50 == 0 and worst.count() and worst.locator(".number.bad").count():
                break
    name, psi, now, before, wrong = worst.locator("th, td").all_inner_texts()
    assert (name, wrong) == ("feature_5", "missing everywhere")
    assert float(now.removesuffix(" %")) > 95, "all but the lists of other tests"
    assert float(psi) > 0.25
    assert float(before.removesuffix(" %")) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [pytest.param(390, id="phone"), pytest.param(1280, id="desk")])
def test_nothing_stands_in_anybodys_way(open_page, theme, width):
    """What axe-core checks: contrast, names, roles; and nothing is wider than the screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.fill("#candidates", "feature_0,feature_1\n1,2\n3,")
    page.click("#try [type=submit]")
    page.wait_for_selector("#ranking-body .why li")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"]) for each in found] == []


def test_the_keyboard_is_enough(open_page):
    page = open_page()
    page.focus("#model")
    reached = set()
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert {"top-k", "example", "candidates", "submit"} <= reached
