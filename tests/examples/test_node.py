"""The Node client, with the packages that npm installs for it; needs Node and the npm registry."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.examples.conftest import EXAMPLES, ROOT, printed, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="not installed: node, npm"),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The example beside the protos, so that nothing is installed in the repository."""
    home = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "protos", home / "protos")
    ignored = shutil.ignore_patterns("node_modules", "package-lock.json")
    shutil.copytree(EXAMPLES / "node", home / "examples/node", ignore=ignored)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=home / "examples/node", check=True, timeout=300)
    return home / "examples/node"


def test_it_ranks(checkout, server, best_three):
    assert printed(run("node", "rank.js", server.address, cwd=checkout)) == best_three


def test_it_shows_the_order_of_retrieval_where_there_is_no_server(checkout):
    command = ["node", "rank.js", "127.0.0.1:1"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "The Salt Orchard"
    assert done.stderr.startswith("not ranked: ")


def test_the_lines_in_the_readme_rank(checkout, server, score):
    (lines,) = re.findall(r"^```js\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    setting_up, _ = (checkout / "rank.js").read_text().split("// Row by row")
    (checkout / "readme.js").write_text(f"{setting_up}\n{lines.replace('+ 200', '+ 10000')}")
    titles = json.loads(re.search(r"candidate_ids: (\[.*\])", lines)[1])
    scores = score(
        *({"genre_affinity": a, "recency_days": d} for a, d in ((0.48, 35), (0.32, 412)))
    )
    first, second = np.argsort(-scores, kind="stable")
    printed = run("node", "readme.js", server.address, cwd=checkout)
    assert json.loads(printed.replace("'", '"')) == [titles[first], titles[second]]
