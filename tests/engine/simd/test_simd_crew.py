"""The threads that share a batch: each row is scored once, whoever calls, fails or forks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranker.engine.simd import engine as simd
from tests.engine.simd.simd_forests import booster_of, predict, random_forest, random_rows

COMPILER = os.environ.get("CC") or shutil.which("cc")
SOURCES = Path(simd.__file__).parent

BEGIN = """
import os, resource, sys, time
import numpy as np
from ranker.engine.simd.engine import SimdEngine
from ranker.errors import ModelError
from tests.engine.simd.simd_forests import random_forest

def threads():
    return set(map(int, os.listdir("/proc/self/task")))

forest, rows = random_forest(np.random.default_rng(1), 5, 6, 16), np.zeros((1000, 6), np.float32)
none = threads()  # of a library, pyarrow's for example, but of no engine
alone = SimdEngine(forest)
want = alone.score([rows])
before = threads()
"""


@pytest.fixture(scope="module")
def xgboosts_own(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rows for the forest of `BEGIN`, and XGBoost's own scores; a program need not import it."""
    folder = tmp_path_factory.mktemp("crew")
    forest = random_forest(np.random.default_rng(1), 5, 6, 16)
    rows = random_rows(np.random.default_rng(2), 1000, forest)
    arrays = {"rows.npy": rows, "scores.npy": predict(booster_of(forest), rows)}
    for name, array in arrays.items():
        np.save(folder / name, array)
    return [folder / name for name in arrays]


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["-fsanitize=thread"], id="thread-sanitizer"),
        pytest.param(["-fsanitize=address,undefined"], id="address-sanitizer"),
    ],
)
def test_crew(tmp_path: Path, options: list[str]) -> None:
    assert COMPILER is not None
    program = tmp_path / "crew"
    empty = [COMPILER, *options, "-xc", "-", "-o", program]
    if subprocess.run(empty, input=b"int main(void) { return 0; }").returncode:
        pytest.skip("the compiler lacks this sanitizer")
    if subprocess.run([program], timeout=60).returncode:
        pytest.skip("this sanitizer does not run here: the kernel's address layout, or no ptrace")
    sources = [SOURCES / "_simd_crew.c", Path(__file__).with_name("simd_crew_main.c")]
    command = [COMPILER, "-std=c11", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, *options, f"-I{SOURCES}", *sources, "-o", program], check=True)
    subprocess.run([program], check=True, timeout=60)


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
@pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's list of threads")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            """
engine, other = SimdEngine(forest, threads=4), SimdEngine(forest, threads=2)
assert len(threads()) == len(before) + 4
del engine
for _ in range(1000):  # the system counts a thread for a moment after it was joined
    if len(threads()) == len(before) + 1:
        break
    time.sleep(0.01)
else:
    sys.exit("threads outlive their engine")
assert (other.score([rows]) == want).all()  # and other's end with the process
""",
            id="threads-end-with-their-engine",
        ),
        pytest.param("assert threads() == none", id="one-thread-starts-none"),
        pytest.param(
            """
if len(os.sched_getaffinity(0)) > 1:
    engine = SimdEngine(forest, threads=3)
    assert (engine.score([rows]) == want).all()
    for helper in threads() - before:
        others = os.sched_getaffinity(0) - os.sched_getaffinity(helper)
        assert len(others) == 1, "a helper may run on the caller's core"
""",
            id="helpers-keep-off-the-callers-core",
        ),
        pytest.param(
            """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
engine = SimdEngine(forest, threads=3)
for _ in range(100):
    assert (engine.score([rows]) == want).all()
""",
            id="one-core-is-enough",
        ),
        pytest.param(
            """
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
try:
    SimdEngine(forest, threads=1024)
except ModelError as error:
    assert error.message == "engine simd: threads: the system doesn't start 1023 more", error
else:
    sys.exit("1023 stacks in 256 MiB")
assert (alone.score([rows]) == want).all()
""",
            id="threads-that-do-not-start-are-an-error",
        ),
        pytest.param(
            """
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that forking is delicate with threads
rows, want = (np.load(path) for path in sys.argv[1:])
cores = os.sched_getaffinity(0)
# Helpers wake up in turn, some after the scores are there: one of so many probably holds the
# crew's lock at the moment of a fork, and nobody in the child will ever let go of it.
engine = SimdEngine(forest, threads=16)
for _ in range(10):
    assert (engine.score([rows]) == want).all()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        right = (engine.score([rows]) == want).all()
        del engine
        moved = os.sched_getaffinity(0) != cores  # the ids of helpers that are gone mean itself
        os._exit(2 if moved else 0 if right else 1)
    status = os.waitpid(child, 0)[1]
    assert status != signal.SIGALRM, "the child waits for helpers that it does not have"
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, {1: "wrong scores", 2: "a child on fewer cores"}.get(code, code)
assert (engine.score([rows]) == want).all()
""",
            id="a-forked-process-scores-alone",
        ),
    ],
)
def test_threads_of_a_process(program: str, xgboosts_own: list[Path]) -> None:
    subprocess.run(
        [sys.executable, "-c", BEGIN + program, *xgboosts_own],
        check=True,
        timeout=60,
        # For the tests' modules; and without NumPy's own threads.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
    )
