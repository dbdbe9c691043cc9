"""How evenly connections spread over workers, and what that costs: the tables of docs/scaling.md.

    python deploy/scaling/spread.py

The kernel gives a connection to one of the workers behind a port by a hash of its addresses and
ports (SO_REUSEPORT in socket(7)), which is as good as chance: the numbers of connections of the
workers are drawn from a multinomial distribution, thousands of times. Every connection is taken to
bring the same load, as those of clients do that spread their calls over all they have.
"""

from __future__ import annotations

from typing import NamedTuple

import click
import numpy as np

PER_WORKER = (1, 2, 4, 8, 16, 32, 64, 128)
"""Connections for each worker, on average."""
WORKERS = (2, 4, 16, 64)
UTILIZATION = 0.6
"""Of all workers together: what the autoscaler keeps (deploy/kubernetes/base/autoscaler.yaml)."""
DRAWS = 4000
SEED = 0


class Spread(NamedTuple):
    """What connections can do that are spread by chance.

    Attributes:
        usable: the load at which the busiest worker has all it can do, as a share of what all
            workers can do; the mean of the draws.
        beyond: at `UTILIZATION`, the share of the load that comes to workers who have more than
            they can do already, and is refused or late.
    """

    usable: float
    beyond: float


def spread(per_worker: int, workers: int) -> Spread:
    """Draws how connections are spread.

    Args:
        per_worker: connections for each worker, on average.
        workers: behind one port.
    """
    random = np.random.default_rng(SEED)
    counts = random.multinomial(per_worker * workers, [1 / workers] * workers, size=DRAWS)
    loads = counts / per_worker  # of each worker, where 1 is an even share
    beyond = np.maximum(UTILIZATION * loads - 1.0, 0.0).sum(axis=1) / (UTILIZATION * workers)
    return Spread(float((1.0 / loads.max(axis=1)).mean()), float(beyond.mean()))


def row(per_worker: int) -> list[str]:
    """The cells of a table's row: for each number of workers both shares, in percent."""
    found = (spread(per_worker, workers) for workers in WORKERS)
    return [f"{each.usable:.0%}, {each.beyond:.1%}".replace("%", " %") for each in found]


@click.command()
def main() -> None:
    """Prints the table."""
    click.echo(f"| connections per worker | {' | '.join(f'{n} workers' for n in WORKERS)} |")
    click.echo("|---" * (1 + len(WORKERS)) + "|")
    for per_worker in PER_WORKER:
        click.echo(f"| {per_worker} | {' | '.join(row(per_worker))} |")


if __name__ == "__main__":
    main()
