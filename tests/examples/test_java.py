"""The Java client, compiled and run with gRPC's jars; in Debian those are the packages below."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.examples.conftest import EXAMPLES, ROOT, printed, run

TOOLS = ("java", "javac", "protoc", "grpc_java_plugin")
JARS = Path("/usr/share/java")
NEEDED = ("grpc-netty.jar", "netty-all.jar", "perfmark-api.jar", "protobuf.jar", "guava.jar")
PACKAGES = (
    "default-jdk-headless libgrpc-java libnetty-java libperfmark-java "
    "protobuf-compiler protobuf-compiler-grpc-java-plugin"
)
absent = [tool for tool in TOOLS if shutil.which(tool) is None]
absent += [jar for jar in NEEDED if not (JARS / jar).exists()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(absent), reason=f"not there: {', '.join(absent)} ({PACKAGES})"),
]


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    """The compiled example and what `buf generate` makes of the contract by buf.gen.yaml."""
    home = tmp_path_factory.mktemp("java")
    template = yaml.safe_load((ROOT / "buf.gen.yaml").read_text())
    template["inputs"] = [{"directory": str(ROOT / "protos")}]
    plugins = [plugin for plugin in template["plugins"] if "java" in str(plugin["out"])]
    assert len(plugins) == 2
    for plugin in plugins:
        plugin["out"] = str(home / "generated")
        if plugin.get("local") == "protoc-gen-grpc-java":
            plugin["local"] = shutil.which("grpc_java_plugin")  # as Debian calls it
    template["plugins"] = plugins
    (home / "buf.gen.yaml").write_text(yaml.safe_dump(template))
    buf = Path(sys.executable).with_name("buf")
    run(buf, "generate", "--template", home / "buf.gen.yaml")
    sources = sorted((home / "generated").rglob("*.java"))
    out = home / "classes"
    run(
        "javac",
        "-nowarn",
        "-proc:none",
        "-d",
        out,
        "-cp",
        f"{JARS}/*",
        EXAMPLES / "java/RankBooks.java",
        *sources,
    )
    return out


def java(classes: Path, target: str) -> subprocess.CompletedProcess[str]:
    command = ["java", "-cp", f"{classes}:{JARS}/*", "RankBooks", target]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_ranks(classes, server, best_three):
    done = java(classes, server.address)
    assert printed(done.stdout) == best_three, done.stderr


def test_it_shows_the_order_of_retrieval_where_there_is_no_server(classes):
    done = java(classes, "127.0.0.1:1")
    assert done.stdout.splitlines()[0] == "The Salt Orchard"
    assert "not ranked: " in done.stderr
