"""The `ranker` command, with workers that have bugs: see `broken_worker`."""

from __future__ import annotations

BROKEN = 12345.5
"""A first feature that breaks the engine."""

LOST = 54321.5
"""A first feature that breaks the engine for good."""

STUCK = 77777.5
"""A first feature at which the engine never comes back."""

STUCK_ON_LOOP = 77778.5
"""Likewise, of a batch that is short enough for the loop to score it itself."""

LEAK = 77779.5
"""A first feature at which the engine takes more memory, for good, than callers may hold."""

SLOW = 77780.5
"""A batch of rows that begin with it takes a twentieth of a second, and no core."""

LARGE = 200
"""A batch of a block with so many rows takes long enough for the engine's own thread."""


if __name__ == "__main__":
    from ranker.cli.main import main
    from ranker.process import supervisor
    from ranker.process.child import Child

    class BrokenChild(Child):
        def __init__(self, module, *arguments) -> None:
            broken = module == "ranker.process.worker"
            super().__init__("tests.end_to_end.broken_worker" if broken else module, *arguments)

    supervisor.Child = BrokenChild
    main()
