"""The image, really built and really run, by Debian's tools and without a daemon.

Needs root, buildah, debootstrap and runc, Debian's packages and this machine's pip. The
container has no capability, a read-only root file system and an unprivileged user.
`pytest --log-cli-level INFO` shows the figures.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import xgboost as xgb

from ranker.client import RankerClient
from ranker.export import export_onnx

ROOT = Path(__file__).resolve().parents[2]
NAME = "localhost/ranker-under-test"
TOOLS = ("buildah", "debootstrap", "runc")
BUILDAH = ("buildah", "--storage-driver", "vfs")
USER = 65532
logger = logging.getLogger(__name__)

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and buildah need root"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="bookworm has Python 3.11"),
]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@dataclass
class Image:
    root: Path
    config: dict
    size: int


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    environment = {**os.environ, "PYTHON": sys.executable}
    build = [str(ROOT / "deploy/image/build.sh"), NAME]
    done = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    described = json.loads(run(*BUILDAH, "inspect", "--type", "image", f"{NAME}:cpu"))
    container = run(*BUILDAH, "from", "--pull-never", f"{NAME}:cpu").strip()
    root = Path(run(*BUILDAH, "mount", container).strip())
    size = sum(p.lstat().st_size for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    yield Image(root, described["OCIv1"]["config"], size)
    run(*BUILDAH, "rm", container)
    run(*BUILDAH, "rmi", f"{NAME}:cpu")


def test_the_image_is_told_how_to_run(image):
    assert image.config["Entrypoint"] == ["ranker"]
    assert image.config["User"] == f"{USER}:{USER}"
    assert set(image.config["ExposedPorts"]) == {"50051/tcp", "8080/tcp", "9090/tcp"}


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("usr/bin/*gcc*", id="compiler"),
        pytest.param("**/site-packages/xgboost*", id="xgboost"),
        pytest.param("**/site-packages/pip", id="pip"),
        pytest.param("**/.cache", id="cache"),
        pytest.param("src", id="sources"),
    ],
)
def test_the_image_does_not_have_what_only_building_needs(image, pattern):
    assert list(image.root.glob(pattern)) == []


def test_the_image_has_the_versions_of_its_requirements(image):
    lines = (ROOT / "deploy/image/requirements.txt").read_text().splitlines()
    pinned = dict(_named(line.split()[0], "==") for line in lines if "==" in line)
    packages = image.root.glob("opt/ranker/lib/python3*/site-packages/*.dist-info")
    found = dict(_named(path.name.removesuffix(".dist-info"), "-") for path in packages)
    del found["tree-ranker"]
    assert found == {name: pinned[name] for name in found}
    assert "onnxruntime" in found


def _named(text: str, between: str) -> tuple[str, str]:
    """A package, as its name is compared, and its version."""
    name, _, version = text.rpartition(between)
    return re.sub(r"[-_.]+", "-", name).lower(), version


class Container:
    """The image's own command in a container, on the machine's loopback interface."""

    def __init__(self, image: Image, bundle: Path, models: Path) -> None:
        run("runc", "spec", "--bundle", str(bundle))
        path = bundle / "config.json"
        spec = json.loads(path.read_text())
        spec["root"] = {"path": str(image.root), "readonly": True}
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": USER, "gid": USER},
            "args": [*image.config["Entrypoint"], *image.config["Cmd"]],
            "env": [*image.config["Env"], "RANKER_HOST=127.0.0.1"]
            + ["RANKER_PORT=0", "RANKER_METRICS_PORT=0", "RANKER_LOG_FORMAT=json"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {},
        }
        linux = spec["linux"]
        linux.pop("resources", None)
        linux["namespaces"] = [
            n for n in linux["namespaces"] if n["type"] not in ("network", "cgroup")
        ]
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] in ("/proc", "/dev")]
        spec["mounts"].append(
            {"destination": "/models", "type": "bind", "source": str(models)}
            | {"options": ["bind", "ro"]}
        )
        path.write_text(json.dumps(spec))
        self.log = bundle / "log"
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["runc", "run", "--bundle", str(bundle), f"ranker-{os.getpid()}"],
                stdout=log,
                stderr=log,
            )
        try:
            self.port = self._port()
            self.client = RankerClient(f"127.0.0.1:{self.port}", timeout=10.0)
            self.client.wait_ready(60.0)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_serving = time.monotonic() - self.started

    def _port(self) -> int:
        while time.monotonic() < self.started + 60 and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if found := re.search(r'"listening on [^"]*:(\d+) ', line):
                    return int(found[1])
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def server(self) -> psutil.Process:
        return next(
            p
            for p in psutil.Process(self.process.pid).children(recursive=True)
            if "serve" in p.cmdline()
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@pytest.fixture
def truth(tmp_path) -> tuple[xgb.Booster, np.ndarray]:
    random = np.random.default_rng(5)
    rows = random.normal(size=(2000, 64)).astype(np.float32)
    data = xgb.DMatrix(rows, (rows[:, 0] > 0).astype(int))
    data.set_group([50] * 40)
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 6}, data, 500)
    (tmp_path / "models").mkdir()
    export_onnx(booster, tmp_path / "models" / "model.onnx")
    return booster, rows[:100]


def test_a_container_ranks_as_nobody_on_a_read_only_root_and_drains(image, truth, tmp_path):
    booster, rows = truth
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    container = Container(image, bundle, tmp_path / "models")
    try:
        with container.client as client:
            ranking = client.rank(rows)
            expected = booster.predict(xgb.DMatrix(rows), output_margin=True)
            assert ranking.indices.tolist() == np.argsort(-expected, kind="stable").tolist()
            np.testing.assert_array_equal(ranking.scores, expected[ranking.indices])
            assert client.get_model().engine == "simd"

        server = container.server()
        status = Path(f"/proc/{server.pid}/status").read_text()
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert values["Uid"].split() == [str(USER)] * 4
        assert values["NSpid"].split()[-1] == "1"
        assert int(values["CapEff"], 16) == 0
        mounts = Path(f"/proc/{server.pid}/mountinfo").read_text().splitlines()
        options = {line.split()[4]: line.split()[5].split(",") for line in mounts}
        assert "ro" in options["/"]
        assert "ro" in options["/models"]

        assert container.stop() == 0
        assert '"message": "drained"' in container.log.read_text()
    finally:
        container.process.kill()
    logger.info(
        "SERVING %.2f s after the container's start; the image's files are %.0f MB",
        container.seconds_to_serving,
        image.size / 1e6,
    )
