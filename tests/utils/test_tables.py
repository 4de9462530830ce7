"""Tests of text tables for a terminal."""

from __future__ import annotations

from ssl_lib.utils.tables import text_table


def test_columns_are_aligned_left_or_right():
    rows = [["", "run", "kNN"], ["1)", "runs/a", "83.6"], ["2)", "b", "-"]]
    assert text_table(rows, left=2).split("\n") == [
        "    run      kNN",
        "----------------",
        "1)  runs/a  83.6",
        "2)  b          -",
    ]


def test_lines_have_no_trailing_spaces():
    assert text_table([["metric", ""], ["loss", "x"]], left=2) == "metric\n---------\nloss    x"


def test_columns_beyond_the_width_continue_in_further_tables():
    rows = [["run", "kNN", "linear", "loss"], ["a", "1.0", "2", "3"], ["bb", "4", "5", "-6"]]
    assert text_table(rows, width=16).split("\n") == [
        "run  kNN  linear",
        "----------------",
        "a    1.0       2",
        "bb     4       5",
        "",
        "run  loss",
        "---------",
        "a       3",
        "bb     -6",
    ]
    assert text_table(rows, width=22) == text_table(rows)
    narrow = text_table(rows, width=1).split("\n\n")  # at least one column
    assert [part.split("\n")[0] for part in narrow] == ["run  kNN", "run  linear", "run  loss"]
