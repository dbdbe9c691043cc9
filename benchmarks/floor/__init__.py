"""The floor: a C++ gRPC server that scores nothing, built where its libraries are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("server.cpp")
PROTOS = Path(__file__).parents[2] / "protos"
BUILD = Path("build/floor")
NEEDS = "g++ and Debian's libgrpc++-dev, libprotobuf-dev and protobuf-compiler-grpc"


def build() -> Path:
    """The program, built if it isn't there or older than its sources. OSError: it can't be here."""
    proto, program = PROTOS / "ranker/v1/ranking.proto", BUILD / "server"
    newest = max(SOURCE.stat().st_mtime, proto.stat().st_mtime)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    protoc = ["protoc", f"-I{PROTOS}", f"--cpp_out={BUILD}", f"--grpc_out={BUILD}", plugin]
    made = [str(BUILD / f"ranker/v1/ranking{kind}.cc") for kind in (".pb", ".grpc.pb")]
    compiler = ["g++", "-O2", "-std=c++17", f"-I{BUILD}", str(SOURCE), *made, "-o", str(program)]
    libraries = ["-Wl,--copy-dt-needed-entries", "-lgrpc++", "-lprotobuf"]
    for command in ([*protoc, str(proto)], compiler + libraries):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise OSError(f"no C++ floor: needs {NEEDS}: {said.strip()[-200:]}") from error
    return program
