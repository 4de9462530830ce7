"""Tables for a terminal."""

from __future__ import annotations

from ssl_lib.text_table import text_table


def test_columns_have_one_width_and_stand_left_or_right():
    rows = [["", "run", "kNN"], ["1)", "runs/a", "83.6"], ["2)", "b", "-"]]
    assert text_table(rows, left=2).split("\n") == [
        "    run      kNN",
        "----------------",
        "1)  runs/a  83.6",
        "2)  b          -",
    ]


def test_nothing_trails_where_the_last_column_is_empty():
    assert text_table([["figure", ""], ["loss", "x"]], left=2) == "figure\n---------\nloss    x"
