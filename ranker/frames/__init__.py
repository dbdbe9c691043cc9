"""Data frames: columns with names, of numbers or of labels, whatever library they come from.

No data frame library is imported. What is like a pandas frame is read by
pandas' own attributes (`pandas`), since pandas gives its Arrow form only where
pyarrow is installed. Every other table, such as those of polars, pyarrow and
DuckDB, is read by the Arrow PyCapsule interface (`arrow`). Both give a `Frame`,
which a model's features and categories make rows of.
"""

from ranker.frames.column import as_float32
from ranker.frames.frame import Features, Frame, read_frame

__all__ = ["Features", "Frame", "as_float32", "read_frame"]
