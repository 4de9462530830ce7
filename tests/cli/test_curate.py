"""Tests of `ssl-lib nearest` and `ssl-lib select`, and of what they share with `ssl-lib duplicates`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable, farthest_points
from tests.cli.conftest import error_of, stdout_of


def test_nearest_prints_ranks_and_draws_a_picture(table, photos, tmp_path, capsys):
    grid = tmp_path / "made" / "grid.png"
    out = stdout_of(capsys, "nearest", table, "bag/02.png", photos / "boot" / "01.png", "-k", "3", "-o", grid)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["bag/02.png", "bag"] and lines[1] == ["rank", "cosine", "path", "label"]
    assert lines[2] == ["1", "1.0000", "boot/02.png", "boot"] and lines[5] == ["boot/01.png", "boot"]
    assert len(lines) == 2 * 5 + 1 and lines[-1][-1] == str(grid)
    picture = np.asarray(Image.open(grid).convert("L"))
    original = np.asarray(Image.open(photos / "bag" / "02.png")).repeat(5, 0).repeat(5, 1)
    for left in (14, 14 + 154 + 14):  # the query and its copy, the first neighbor
        np.testing.assert_array_equal(picture[14:154, left : left + 140], original)
    assert "no image 'c.png' in this table of 43 images" in error_of(capsys, "nearest", table, "c.png")
    assert "-k must be at least 1, got 0" in error_of(capsys, "nearest", table, "0", "-k", "0")
    assert "must end in a picture's suffix" in error_of(capsys, "nearest", table, "0", "-o", tmp_path / "grid.x")
    gone = error_of(capsys, "nearest", table, "0", "-o", grid, "--images", tmp_path)
    assert f"{tmp_path}/bag/00.png cannot be read (No such file or directory)" in gone


def test_select_writes_a_subset_and_compares_it_with_a_random_subset(table, tmp_path, capsys):
    chosen = tmp_path / "chosen.txt"
    out = stdout_of(capsys, "select", table, "-n", "9", "--seed", "1", "-o", chosen)
    made = EmbeddingTable.load(table)
    expected = made.paths[farthest_points(made.embeddings, 9, seed=1)]
    assert chosen.read_text().splitlines() == expected.tolist()
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert float(rows["k-center"][1]) < float(rows["random"][1])
    out = stdout_of(capsys, "select", table, "-n", "9", "--method", "random", "-o", chosen)
    assert "k-center" not in out and len(set(chosen.read_text().splitlines())) == 9
    assert "-n must be from 1 to 43" in error_of(capsys, "select", table, "-n", "44")
    assert "--seed must be at least 0" in error_of(capsys, "select", table, "-n", "4", "--seed", "-1")


@pytest.mark.parametrize("words", [("nearest", "0"), ("duplicates",), ("select", "-n", "3")])
def test_unwritable_output_raises_before_the_work(words, table, capsys):
    command, *rest = words
    name = "grid.png" if command == "nearest" else "list.txt"
    assert f"{name} cannot be written" in error_of(capsys, command, table, *rest, "-o", table / name)
    assert main([command, str(table), *rest, "-o", str(table / name)]) == 2 and not capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png"])
@pytest.mark.parametrize("words", [("select", "-n", "1"), ("duplicates", "--threshold", "1")])
def test_line_break_in_any_name_is_refused_before_the_work_or_ends_with_a_zero_byte(words, name, tmp_path, capsys):
    command, *rest = words
    names = np.array(["c.png", "d.png", name])
    embeddings = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    EmbeddingTable(embeddings, names).save(tmp_path / "e.npz")
    target = tmp_path / "list.txt"
    error = error_of(capsys, command, tmp_path / "e.npz", *rest, "-o", target)
    assert "has a line break in its name" in error and "add --null" in error and not target.exists()
    assert "distance" not in error  # a progress bar of the work
    out = stdout_of(capsys, command, tmp_path / "e.npz", *rest, "-o", target, "--null")
    assert target.read_bytes().endswith(b"\0") and b"\n" not in target.read_bytes().replace(b"a\nb", b"")
    if command == "duplicates":
        assert target.read_bytes() == b"d.png\0" and "1 group of near-duplicates" in out
    everything = tmp_path / "all.txt"
    stdout_of(capsys, "select", tmp_path / "e.npz", "-n", "3", "-o", everything, "--null")
    assert sorted(everything.read_bytes().split(b"\0")[:-1]) == sorted([b"c.png", b"d.png", name.encode()])
