from __future__ import annotations

import pytest

from ranker.errors import InvalidRequestError
from ranker.quality.outcomes import Outcomes


@pytest.mark.parametrize(
    ("header", "row", "got"),
    [
        pytest.param("request_id,label,index", "q1,1", 2, id="no-index"),
        pytest.param("request_id,label,candidate_id", "q1,1", 2, id="no-candidate-id"),
        pytest.param("label,candidate_id,request_id", "1,c1", 2, id="no-request-id"),
        pytest.param("request_id,candidate_id,label", "q1", 1, id="only-the-request-id"),
        pytest.param("request_id,index,label", "q1,0,1,9", 4, id="one-more"),
        pytest.param("request_id,index,label", "q1,0,1,", 4, id="an-empty-one-more"),
        pytest.param("request_id,index,label", "q1,0,1,0,5", 5, id="decimal-commas"),
    ],
)
def test_lines_with_more_or_fewer_cells_than_columns_are_refused(tmp_path, header, row, got):
    path = tmp_path / "clicks.csv"
    path.write_text(f"{header}\n0,0,0\n{row}\n")
    with pytest.raises(InvalidRequestError, match=f"line 3: expected 3 cells, got {got}"):
        Outcomes.read(path)


def test_empty_lines_are_no_outcomes(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("request_id,index,label\n\nq1,0,1\n\n")
    assert Outcomes.read(path).unmatched == 1
