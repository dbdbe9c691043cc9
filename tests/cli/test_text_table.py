from ranker.cli.text_table import format_table


def test_columns_line_up():
    table = format_table(
        ["rank", "title", "score"],
        [["1", "Tidewater", "0.5000"], ["10", "Ash", "-12.0000"]],
        numeric=("rank", "score"),
    )
    assert table.splitlines() == [
        "rank  title         score",
        "   1  Tidewater    0.5000",
        "  10  Ash        -12.0000",
    ]


def test_no_trailing_spaces():
    assert format_table(["a", "b"], [["x", "long"], ["y", ""]]).splitlines()[2] == "y"


def test_header_only():
    assert format_table(["rank", "title"], []) == "rank  title"
