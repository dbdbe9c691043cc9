"""Tree ensembles as arrays, and what reads them from files."""

from ranker.forest.forest import Forest

__all__ = ["Forest"]
