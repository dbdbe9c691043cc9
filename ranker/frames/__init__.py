"""Data frames: columns with names, of numbers or of labels, whatever library they come from.

No data frame library is imported. What is like a pandas frame is read by
pandas' own attributes (`pandas`), since pandas gives its Arrow form only where
pyarrow is installed. Every other table, such as those of polars, pyarrow and
DuckDB, is read by the Arrow PyCapsule interface (`arrow`). Both give a `Frame`,
which a model's features and categories make rows of.
"""

from ranker.frames.column import Labels, all_missing, as_float32, in_use, is_masked
from ranker.frames.frame import (
    Features,
    Frame,
    feature_values,
    named_by_numbers,
    one_candidate,
    read_frame,
)

__all__ = [
    "Features",
    "Frame",
    "Labels",
    "all_missing",
    "as_float32",
    "feature_values",
    "in_use",
    "is_masked",
    "named_by_numbers",
    "one_candidate",
    "read_frame",
]
