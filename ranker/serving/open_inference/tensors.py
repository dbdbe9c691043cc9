"""The tensors that a model takes and gives."""

from __future__ import annotations

from typing import NamedTuple


class Tensor(NamedTuple):
    """A tensor of a list; its first dimension is as long as the list, or as what is asked for.

    Attributes:
        name: what requests and answers call it.
        datatype: the protocol's name of its type.
    """

    name: str
    datatype: str


CANDIDATES = Tensor("candidates", "FP32")
"""[n, F]: a row per candidate, the features in the model's own order; NaN is missing."""

SCORES = Tensor("scores", "FP32")
"""[n], in the order of the candidates; with `top_k` [k], best first."""

INDICES = Tensor("indices", "INT64")
"""[n], or [k] with `top_k`: positions of candidates, best first."""

OUTPUTS = (SCORES, INDICES)
"""What a request gets that names none."""
