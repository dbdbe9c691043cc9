"""The ranking log of a real server: what is in it, what survives, and that it comes out again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.client import RankerClient
from ranker.client import channel as wire
from ranker.client.request import rank_request
from ranker.ranking_log.reader import LoggedList, RankingLog
from ranker.repository.traffic import place
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, RunningServer
from tests.end_to_end.test_config_in_bucket import bucket  # noqa: F401
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until

RATE = 0.5
UNITS = tuple(f"reader {number}" for number in range(60))
SAMPLED = tuple(unit for unit in UNITS if place("ranking-log", unit) < RATE)
DROPPED, RECORDS = "ranker_ranking_log_dropped_total", "ranker_ranking_log_records_total"


def raw(channel: grpc.Channel, data: bytes) -> bytes:
    """Ranks a list; the answer's bytes."""
    return channel.unary_unary(wire.RANK[0], None, None)(data, timeout=10)


def own_channel(server: RunningServer) -> grpc.Channel:
    """A channel with a connection of its own, to whichever worker the kernel picks."""
    return grpc.insecure_channel(server.address, options=wire.OPTIONS)


def lists_in(folder: Path) -> list[LoggedList]:
    """What has been written so far, also to files that are not complete."""
    return list(RankingLog(sorted(folder.iterdir())).lists())


def wait_for(folder: Path, ids: Sequence[str]) -> dict[str, LoggedList]:
    """The lists of these requests, once all of them have been written."""

    def found() -> dict[str, LoggedList]:
        lists = {each.request.request_id: each for each in lists_in(folder)}
        return {name: lists[name] for name in ids if name in lists}

    wait_until(lambda: len(found()) == len(ids))
    return found()


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rankings") / "log"


@pytest.fixture(scope="module")
def server(truth, folder, tmp_path_factory) -> Iterator[RunningServer]:
    """Two workers that log half of the units."""
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--workers", "2", "--log-rankings", str(folder), "--log-rate", str(RATE))
    running = RunningServer(log, str(truth.path), *options)
    yield running
    assert running.stop() == 0, log.read_text()


def test_records_are_what_was_sent_and_answered_byte_for_byte(server, folder, truth):
    sent = {}
    with own_channel(server) as channel:
        for at in range(20):
            rows = truth.rows[at : at + 5 + at]
            name = f"unary {at}"
            message = rank_request(
                rows, request_id=name, unit=SAMPLED[0], top_k=at % 4, explain=at % 3
            )
            data = message + b"\xc2\x3e\x03new"  # a field that a later contract may have
            sent[name] = data, raw(channel, data)
        streamed = [
            rank_request(truth.rows[:3], request_id=f"stream {at}", unit=SAMPLED[1])
            for at in range(20)
        ]
        answers = channel.stream_stream(wire.RANK_STREAM[0], None, None)(iter(streamed))
        by_id = {pb.RankResponse.FromString(answer).request_id: answer for answer in answers}
    sent |= {f"stream {at}": (data, by_id[f"stream {at}"]) for at, data in enumerate(streamed)}
    for name, found in wait_for(folder, list(sent)).items():
        assert (found.record.request, found.record.response) == sent[name]
        assert found.columns == list(NAMES)
        assert (found.record.model, found.record.model_version) == ("books", "7")


@pytest.mark.parametrize("more", [{NAMES[0]: 1.0}, {}], ids=["some-features", "none"])
def test_nobody_makes_up_a_unit_for_a_list_in_json(start, tmp_path, more):
    folder = tmp_path / "log"
    server = start("--log-rankings", str(folder), "--log-rate", "1")
    body = {"candidates": [more and {**more, NAMES[1]: 2.0}, more], "request_id": "a"}
    assert ask(server.http_port, "/v1/models/books:rank", body).status == 200
    [found] = wait_for(folder, ["a"]).values()
    assert (found.request.unit, found.record.sampled_by_unit) == ("", False)


def test_a_list_in_json_is_logged_as_what_became_of_it(server, folder):
    asked = {
        "candidates": [[1.0, 2.0], [3.0, 4.0]],
        "feature_names": NAMES[:2],
        "request_id": "json",
        "unit": SAMPLED[0],
    }
    url = f"http://127.0.0.1:{server.http_port}/v1/models/books:rank"
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(url, json.dumps(asked).encode(), headers)) as response:
        answered = json.load(response)
    [found] = wait_for(folder, ["json"]).values()
    assert found.columns == list(NAMES[:2])
    assert list(found.response.indices) == answered["indices"]


def test_units_are_in_or_out_as_a_whole_on_both_workers(server, folder, truth):
    parts = range(24)  # connections, which the kernel shares out: not all to one, but by 2 ** -23
    for part in parts:
        with own_channel(server) as channel:
            for unit in UNITS:
                name = f"{unit}/{part}"
                raw(channel, rank_request(truth.rows[:2], request_id=name, unit=unit))
    expected = [f"{unit}/{part}" for unit in SAMPLED for part in parts]
    files = {each.file for each in wait_for(folder, expected).values()}
    assert len(files) >= 2, "all connections went to one worker"
    units = {each.request.unit for each in lists_in(folder)}
    assert units <= set(SAMPLED)


def test_killed_processes_lose_nothing_that_was_written(server, folder, truth):
    def rank(name: str) -> None:
        with RankerClient(server.address, timeout=10) as client:
            client.rank(truth.rows[:4], request_id=name, unit=SAMPLED[0])

    rank("before")
    wait_for(folder, ["before"])
    before = {path.name for path in folder.glob("*.open")}
    server.wait_for_log("office serves")
    serving = server.log.read_text().count(" serves")
    killed = server.office(), server.worker(0), server.worker(1)
    for process in killed:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: server.log.read_text().count(" serves") >= serving + len(killed))
    rank("after")
    wait_for(folder, ["before", "after"])
    complete = {f"{path.name}.open" for path in folder.glob("*.tfrecord")}
    assert before <= complete  # whoever came next has finished them


def test_a_dead_folder_disturbs_no_request_and_is_said(server, folder, truth):
    shutil.rmtree(folder, ignore_errors=True)  # with the files that are open
    folder.write_text("not a folder")
    with RankerClient(server.address, channels=8, timeout=10) as client:

        def dropped() -> float:
            client.rank(truth.rows[:4], unit=SAMPLED[0], request_id="lost")
            return server.metric(DROPPED, reason="disk")

        wait_until(dropped)
        folder.unlink()
        client.rank(truth.rows[:4], unit=SAMPLED[0])

        def found() -> bool:
            client.rank(truth.rows[:4], unit=SAMPLED[0], request_id="again")
            return folder.is_dir() and any(
                each.request.request_id == "again" for each in lists_in(folder)
            )

        wait_until(found)
    assert server.log.read_text().count("the ranking log can't be written") <= 2  # a worker each
    assert server.metric("ranker_requests_total") == server.metric(
        "ranker_requests_total", code="OK"
    )


def logged_traffic(server: RunningServer, rows: np.ndarray, lists: int) -> None:
    """Has so many lists of 100 candidates ranked, each another one."""
    messages = [
        rank_request(np.roll(rows, 37 * at, axis=0)[:100], request_id=str(at))
        for at in range(lists)
    ]
    with own_channel(server) as channel, ThreadPoolExecutor(4) as callers:
        for _ in callers.map(lambda data: raw(channel, data), messages):
            pass


def check_a_log_that_was_ended_cleanly(start, truth, folder: Path, lists: int) -> None:
    server = start("--log-rankings", str(folder), "--log-rate", "1")
    logged_traffic(server, truth.rows, lists)
    assert server.stop() == 0
    assert all(path.suffix == ".tfrecord" for path in folder.iterdir())
    document = folder.with_name("replay.json")
    code, output = command("replay", folder, "--model", truth.path, "--json", document)
    assert code == 0, output
    assert f"{lists} lists that books@7 ranked: {lists} the same to the bit" in output
    found = json.loads(document.read_text())
    assert (found["same"], found["different"]) == (lists, 0)
    assert found["candidates"] == lists * 100


@pytest.mark.parametrize("transport", ["core"], indirect=True, scope="session")
def test_a_clean_end_loses_nothing_and_a_replay_gives_the_answers(start, truth, tmp_path):
    """A hundred thousand candidates, and then to a server again."""
    folder = tmp_path / "log"
    check_a_log_that_was_ended_cleanly(start, truth, folder, 1000)

    server = start("--log-rankings", str(tmp_path / "second"), "--log-rate", "0")
    where = ("--against", server.address, "--speed", "0", "--limit", "300", "--timeout", "10")
    code, output = command("replay", folder, *where)
    assert code == 0, output
    assert "300 answers equal the log's, 0 differ" in output
    assert "p99 " in output
    assert not list((tmp_path / "second").iterdir())  # at a rate of 0
    code, output = command("replay", folder, "--against", "127.0.0.1:1", "--limit", "2")
    assert code == 2
    assert "can't reach a server at 127.0.0.1:1" in output


@pytest.mark.parametrize("transport", ["core"], indirect=True, scope="session")
def test_a_bucket_has_all_files_once_the_server_has_ended(bucket, start, truth, tmp_path):  # noqa: F811
    address = f"{bucket.address}/rankings"
    options = ("--log-rankings", address, "--log-rate", "1", "--model-cache", str(tmp_path))
    server = start(*options, "--log-exclude-feature", NAMES[3])
    with RankerClient(server.address, timeout=PATIENCE) as client:
        for at in range(3):
            client.rank(truth.rows[:4], request_id=f"r{at}")
    assert server.stop() == 0
    assert not list(tmp_path.glob("rankings/*/*"))
    code, output = command("log", "show", address)
    assert code == 0, output
    found = [json.loads(line) for line in output.splitlines()]
    assert [each["request_id"] for each in found] == ["r0", "r1", "r2"]
    assert found[0]["excluded_features"] == [NAMES[3]]
    code, output = command("replay", address, "--model", truth.path)
    assert (code, output.splitlines()[0]) == (
        0,
        "3 lists that books@7 ranked can't be ranked again: features were left out of the log",
    )


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["core"], indirect=True, scope="session")
def test_a_million_candidates_come_out_as_they_were_answered(start, truth, tmp_path):
    check_a_log_that_was_ended_cleanly(start, truth, tmp_path / "log", 10_000)
