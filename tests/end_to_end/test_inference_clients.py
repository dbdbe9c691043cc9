"""Others' clients of the Open Inference Protocol, as they are published, call a real server.

Each is installed by pip into an environment of its own; where it can't be, its test is skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ranker.inference import open_inference_pb2 as pb
from tests.end_to_end.conftest import NAMES

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "inference_clients"


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Callable[..., Path]:
    """Makes an environment with a package; gives its folder of programs."""
    made: dict[str, Path] = {}

    def install(requirement: str) -> Path:
        if requirement not in made:
            folder = tmp_path_factory.mktemp("client")
            venv.create(folder, with_pip=True)
            pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", requirement]
            done = subprocess.run(pip, capture_output=True, text=True, timeout=900)
            if done.returncode != 0:
                pytest.skip(f"can't be installed here: {done.stderr.strip().splitlines()[-1]}")
            made[requirement] = folder / "bin"
        return made[requirement]

    return install


@pytest.fixture
def rows(truth, tmp_path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, truth.rows[:60])
    assert np.isnan(truth.rows[:60]).any()
    return path


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check(truth, out: Path) -> int:
    """What a client got is XGBoost's; returns how many arrays it got."""
    scores = truth.scores(truth.rows[:60])
    order = np.argsort(-scores, kind="stable")
    with np.load(out) as found:
        for name, values in found.items():
            if name.endswith("top"):
                assert values.tolist() == order[:3].tolist(), name
            elif name.endswith("indices"):
                assert values.tolist() == order.tolist(), name
            else:
                assert values.astype("<f4").tobytes() == scores.astype("<f4").tobytes(), name
        return len(found.files)


def our_fields() -> dict[str, dict[str, list[object]]]:
    """Of every message."""
    outer = pb.DESCRIPTOR.message_types_by_name.values()
    return {
        message.full_name: {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
        for message in [each for one in outer for each in (one, *one.nested_types)]
    }


def test_tritonclient_over_grpc(server, truth, installed, rows, tmp_path):
    python = installed("tritonclient[grpc]") / "python"
    out = tmp_path / "out.npz"
    published = json.loads(run(python, CLIENTS / "triton_grpc.py", server.address, rows, out))
    assert check(truth, out) == 3
    # KServe's, which Triton does not have.
    ours = {
        name: fields
        for name, fields in our_fields().items()
        if name != "inference.ModelMetadataResponse.PropertiesEntry"
    }
    del ours["inference.ModelMetadataResponse"]["properties"]
    for name, fields in ours.items():
        for field, about in fields.items():
            assert published["fields"][name][field] == about, f"{name}.{field}"
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert published["methods"] == {
        method.name: [method.input_type.full_name, method.output_type.full_name]
        for method in service.methods
    }


def test_tritonclient_over_http(server, truth, installed, rows, tmp_path):
    python = installed("tritonclient[http]") / "python"
    out = tmp_path / "out.npz"
    run(python, CLIENTS / "triton_http.py", f"localhost:{server.http_port}", rows, out)
    assert check(truth, out) == 4


def test_kserve(server, truth, installed, rows, tmp_path):
    python = installed("kserve") / "python"
    out = tmp_path / "out.npz"
    http = f"localhost:{server.http_port}"
    run(python, CLIENTS / "kserve_client.py", server.address, http, rows, out)
    assert check(truth, out) == 12


@pytest.mark.parametrize(
    "how",
    [("grpc",), ("grpc", "--streaming", "--async"), ("http",)],
    ids=["grpc", "grpc-stream", "http"],
)
def test_perf_analyzer(server, installed, how):
    """Its wheels need glibc 2.38; an older system gets a package that is empty."""
    program = installed("perf-analyzer") / "perf_analyzer"
    if not program.exists():
        pytest.skip("perf-analyzer has no program for this system")
    port = server.http_port if how[0] == "http" else server.port
    shape = f"candidates:100,{len(NAMES)}"
    report = run(
        program, "-m", "books", "-i", *how, "-u", f"localhost:{port}", "--shape", shape,
        "--concurrency-range", "4", "--measurement-mode", "count_windows",
        "--measurement-request-count", "100", "--stability-percentage", "999",
    )  # fmt: skip
    assert int(re.search(r"Successful request count: (\d+)", report)[1]) >= 100
    assert re.search(r"compute infer \d+ usec", report)


def test_manifests_have_kserves_fields(installed):
    python = installed("kserve") / "python"
    manifests = (Path(__file__).resolve().parents[2] / "deploy/kserve").glob("*.yaml")
    run(python, CLIENTS / "kserve_manifests.py", *sorted(manifests))


def test_the_example_of_the_docs_runs(server, installed, tmp_path):
    python = installed("tritonclient[grpc]") / "python"
    page = (Path(__file__).resolve().parents[2] / "docs/open-inference.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = tmp_path / "example.py"
    example.write_text(code.replace("localhost:50051", f"localhost:{server.port}"))
    lines = run(python, example).splitlines()
    scores = [float(line.split()[1]) for line in lines]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
