"""Tests of `ssl-lib nearest`, `ssl-lib duplicates` and `ssl-lib select`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable, duplicate_groups, farthest_points
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


def test_duplicates_prints_groups_and_writes_paths_to_drop(table, tmp_path, capsys):
    dropped = tmp_path / "made" / "drop.txt"
    out = stdout_of(capsys, "duplicates", table, "--threshold", "1", "--show", "2", "-o", dropped)
    assert out.startswith("3 groups of near-duplicates (cosine of 1 or more): 3 of 43 images to drop\n")
    assert "3 groups with more than one label\n" in out and "1 group not shown; --show 3 prints all" in out
    assert "2 images\n  keep  1.0000  bag/00.png  bag\n  drop  1.0000  boot/00.png  boot\n" in out
    assert dropped.read_text().splitlines() == ["boot/00.png", "boot/02.png", "boot/04.png"]
    made = EmbeddingTable.load(table)
    groups = duplicate_groups(made.embeddings, 0.9)
    out = stdout_of(capsys, "duplicates", table, "--threshold", "0.9", "-o", dropped)
    expected = sorted(made.paths[row] for group in groups for row in group[1:])
    assert dropped.read_text().splitlines() == expected
    assert "connect them" not in out
    assert "threshold must be above 0" in error_of(capsys, "duplicates", table, "--threshold", "2")


def test_duplicates_reports_chains(tmp_path, capsys):
    angles = np.radians([0, 10, 20])
    table = EmbeddingTable(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), np.array(list("abc")))
    table.save(tmp_path / "e.npz")
    out = stdout_of(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.98")
    assert f"have a cosine of only {np.cos(angles[2]):.4f}, since other images connect them" in out
    assert "connect them" not in stdout_of(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.93")


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


def test_path_with_line_break_raises(tmp_path, capsys):
    names = np.array(["a\nb.png", "c.png"])
    EmbeddingTable(np.ones((2, 3), np.float32), names).save(tmp_path / "e.npz")
    error = error_of(capsys, "select", tmp_path / "e.npz", "-n", "2", "-o", tmp_path / "s.txt")
    assert "line break" in error and not (tmp_path / "s.txt").exists()
