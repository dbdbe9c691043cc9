"""`ranker log`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranker.cli.long_work import progress_bar, usage_errors
from ranker.distribution import require

if TYPE_CHECKING:
    from ranker.ranking_log.reader import LoggedList, RankingLog

UNVERIFIED_CODES = "codes may stand for other categories, since the log or a model does not say"
"""Before the names of such features."""

_TO_WRITE = click.Path(dir_okay=False, writable=True, path_type=Path)


@contextmanager
def opened(address: str) -> Iterator[RankingLog]:
    """A ranking log, with a bar while it is copied from a bucket."""
    from ranker.ranking_log.reader import open_log
    from ranker.repository.place import BUCKETS

    with ExitStack() as stack:
        if address.startswith(BUCKETS):
            with progress_bar("fetching") as progress:
                found = stack.enter_context(open_log(address, progress))
        else:
            found = stack.enter_context(open_log(address))
        yield found


@click.group(short_help="Read what `ranker serve --log-rankings` wrote.")
def log() -> None:
    """Read a ranking log: what `ranker serve --log-rankings` wrote.

    LOG is a folder, one file of it, or gs://BUCKET/PATH or s3://BUCKET/PATH.
    """


@log.command(short_help="Write it as a table.")
@click.argument("log", metavar="LOG")
@click.argument("out", metavar="OUT.parquet", type=_TO_WRITE)
def convert(log: str, out: Path) -> None:
    """Write a ranking log as Parquet, a row for each candidate.

    \b
      ranker log convert /var/log/rankings out.parquet

    Columns: request_id, unit, time, model, version, model_sha256, arm, trace_id,
    sample_rate; index (its place in the request, from 0), candidate_id, position
    (its place in the answer, from 1) and score; and each feature by its name, null
    where it is missing. docs/quality.md has the schema for BigQuery.
    """
    with usage_errors():
        require("serve")
        require("log")

        from ranker.quality.log_table import write_parquet

        with opened(log) as found, progress_bar("converting") as progress:
            rows = write_parquet(found, out, progress)
    click.echo(f"{out}: {rows} candidates", err=True)


@log.command(short_help="Print its lists.")
@click.argument("log", metavar="LOG")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Print so many; 0: all.")
def show(log: str, limit: int) -> None:
    """Print the lists of a ranking log, a line of JSON for each, without their features.

    \b
      ranker log show /var/log/rankings --limit 10
    """
    import json
    from itertools import islice

    with usage_errors():
        require("serve")
        with opened(log) as found:
            for logged in islice(found.lists(), limit or None):
                click.echo(json.dumps(_as_json(logged), ensure_ascii=False))


def _as_json(logged: LoggedList) -> dict[str, Any]:
    record, request, response = logged.record, logged.request, logged.response
    return {
        "request_id": request.request_id,
        "unit": request.unit,
        "time_unix_nanos": record.time_unix_nanos,
        "model": record.model,
        "version": record.model_version,
        "model_sha256": record.model_sha256,
        "arm": record.arm,
        "engine": record.engine,
        "trace_id": record.trace_id,
        "sample_rate": record.sample_rate,
        "excluded_features": list(record.excluded_features),
        "candidates": request.candidates.rows,
        "indices": list(response.indices),
        "candidate_ids": list(response.candidate_ids),
        "scores": list(response.scores),
    }
