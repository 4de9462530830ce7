"""Tests of `ssl-lib duplicates`."""

from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable, duplicate_groups
from tests.cli.conftest import error_of, stdout_of


def test_groups_are_printed_and_paths_to_drop_written(table, tmp_path, capsys):
    dropped = tmp_path / "made" / "drop.txt"
    out = stdout_of(capsys, "duplicates", table, "--threshold", "1", "--show", "2", "-o", dropped)
    assert out.startswith("3 groups of near-duplicates (cosine of 1 or more): 3 of 43 images to drop\n")
    assert "3 images to drop with exactly the bytes of the image to keep\n" in out
    assert "3 groups with more than one label\n" in out and "1 group not shown; --show 3 prints all" in out
    assert "2 images\n  keep  1.0000  bag/00.png  bag\n  drop  copy    boot/00.png  boot\n" in out
    assert dropped.read_text().splitlines() == ["boot/00.png", "boot/02.png", "boot/04.png"]
    made = EmbeddingTable.load(table)
    groups = duplicate_groups(made.embeddings, 0.9)
    stdout_of(capsys, "duplicates", table, "--threshold", "0.9", "-o", dropped)
    assert dropped.read_text().splitlines() == sorted(made.paths[row] for group in groups for row in group[1:])
    assert "threshold must be above 0" in error_of(capsys, "duplicates", table, "--threshold", "2")


def test_chain_is_measured_from_the_kept_image(tmp_path, capsys):
    angles = np.radians([0, 10, 20, 30])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    EmbeddingTable(embeddings, np.array(list("abcd"))).save(tmp_path / "e.npz")
    out = stdout_of(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.98", "-o", tmp_path / "drop.txt")
    assert (tmp_path / "drop.txt").read_text() == "b\nd\n"
    assert out.count("2 images\n") == 2 and f"drop  {np.cos(angles[1]):.4f}  d\n" in out
    stdout_of(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.93", "-o", tmp_path / "drop.txt")
    assert (tmp_path / "drop.txt").read_text() == "b\nc\n"


@pytest.fixture
def linked(photos, tmp_path):
    """A folder in which links come first, and its table; all embeddings differ, so that only the files are compared."""
    root = tmp_path / "linked"
    shutil.copytree(photos / "bag", root / "m")
    os.symlink("m/00.png", root / "a.png")
    os.symlink("m", root / "b")
    shutil.copy(root / "m" / "02.png", root / "c.png")
    paths = ["a.png", "b/02.png", "b/04.png", "c.png", "m/00.png", "m/02.png", "m/04.png"]
    angles = np.arange(len(paths))
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    EmbeddingTable(embeddings, np.array(paths), root=str(root)).save(tmp_path / "e.npz")
    return tmp_path / "e.npz", root


def test_nothing_is_lost_by_deleting_the_listed_paths(linked, tmp_path, capsys):
    table, root = linked
    contents = {(root / path).read_bytes() for path in EmbeddingTable.load(table).paths}
    out = stdout_of(capsys, "duplicates", table, "-o", tmp_path / "drop.txt")
    listed = (tmp_path / "drop.txt").read_text().splitlines()
    assert listed == ["a.png", "m/02.png"]
    assert "2 of 5 images to drop\n" in out and "2 paths through a linked folder" in out
    for path in listed:
        (root / path).unlink()
    assert {path.read_bytes() for path in [*root.glob("*.png"), *root.glob("m/*.png")]} >= contents


def test_folder_that_has_moved_is_reported_and_can_be_named(linked, tmp_path, capsys):
    table, root = linked
    root.rename(tmp_path / "moved")
    assert main(["duplicates", str(table)]) == 0
    printed = capsys.readouterr()
    assert f"note: {root}/a.png is not found, so links and exact copies are not recognized; --images" in printed.err
    assert printed.out.startswith("0 groups")
    assert "2 of 5 images to drop" in stdout_of(capsys, "duplicates", table, "--images", tmp_path / "moved")
    assert f"{tmp_path}/a.png cannot be read" in error_of(capsys, "duplicates", table, "--images", tmp_path)


def test_flips_find_mirrored_copies(tmp_path, capsys):
    """Directions of 118, 178, 238 and 298 degrees; those of the mirrored images are 0, 60, 120 and 180."""
    paths = np.array(list("abcd"))
    for name, start in (("e", 118), ("mirrored", 0)):
        angles = np.radians(start + np.array([0, 60, 120, 180]))
        embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
        EmbeddingTable(embeddings, paths).save(tmp_path / f"{name}.npz")
    assert stdout_of(capsys, "duplicates", tmp_path / "e.npz").startswith("0 groups")
    out = stdout_of(capsys, "duplicates", tmp_path / "e.npz", "--flips", tmp_path / "mirrored.npz")
    for kept, dropped in ("ac", "bd"):
        line = f"  drop  {np.cos(np.radians(2)):.4f} mirrored  {dropped}\n"
        assert f"2 images\n  keep  1.0000  {kept}\n{line}" in out
    EmbeddingTable(embeddings, paths[::-1].copy()).save(tmp_path / "other.npz")
    error = error_of(capsys, "duplicates", tmp_path / "e.npz", "--flips", tmp_path / "other.npz")
    assert "other.npz: it must hold the embeddings of the same images, mirrored, in the same order" in error


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_page_shows_the_groups(table, tmp_path, capsys):
    out = stdout_of(capsys, "duplicates", table, "--threshold", "1", "-o", tmp_path / "groups.html")
    assert f"a page with 3 groups: {tmp_path}/groups.html\n" in out
    page = (tmp_path / "groups.html").read_text()
    found = Tags(page)
    images = [attributes["src"] for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 6 and all(source.startswith("data:image/") for source in images)
    assert images[0] == images[1] and len(set(images)) == 3  # each image, and its copy
    assert "bag/00.png" in found.text and "boot/04.png" in found.text and "3 of 43 images to drop" in found.text
    assert (
        "://" not in page
        and "<script" not in page
        and not {"link", "script"}
        & {tag for tag, attributes in found.tags if attributes.get("href", "data:") != "data:,"}
    )
    shorter = stdout_of(capsys, "duplicates", table, "--threshold", "1", "--show", "1", "-o", tmp_path / "groups.html")
    assert "a page with 1 group:" in shorter
    assert "2 smaller groups not on this page; --show 3 adds all" in (tmp_path / "groups.html").read_text()


def test_page_escapes_names(photos, tmp_path, capsys):
    root = tmp_path / "odd"
    root.mkdir()
    names = ["<script>alert(1)<", "a&b\n\x1b[31m", os.fsdecode(b"\xff.png")]
    for name in names:
        shutil.copy(photos / "bag" / "00.png", root / name)
    table = EmbeddingTable(np.eye(3, dtype=np.float32), np.array(names), np.array([0, 0, 0]), ("<b>x",), str(root))
    table.save(tmp_path / "e.npz")
    stdout_of(capsys, "duplicates", tmp_path / "e.npz", "-o", tmp_path / "g.html")
    page = (tmp_path / "g.html").read_text()
    assert "<script" not in page and "<b>x" not in page and "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page and r"\x1b[31m" in page and r"\xff.png" in page and "&lt;b&gt;x" in page


def test_page_without_images_is_refused_before_the_work(table, tmp_path, capsys):
    error = error_of(capsys, "duplicates", table, "-o", tmp_path / "g.html", "--images", tmp_path)
    assert re.search("00.png cannot be read.*--images", error) and not (tmp_path / "g.html").exists()
    EmbeddingTable(np.ones((2, 2), np.float32), np.array(["0", "1"])).save(tmp_path / "e.npz")
    assert "--images" in error_of(capsys, "duplicates", tmp_path / "e.npz", "-o", tmp_path / "g.html")
    assert "--null is for a list of paths" in error_of(capsys, "duplicates", table, "--null")
    assert "--null is for" in error_of(capsys, "duplicates", table, "-o", tmp_path / "g.html", "--null")


def test_page_of_a_runs_own_images(quick_run, tmp_path, capsys):
    """A table of arrays: there are no files to compare, and the run supplies the pictures."""
    stdout_of(capsys, "embed", quick_run, "-o", tmp_path / "own.npz")
    out = stdout_of(
        capsys,
        "duplicates",
        tmp_path / "own.npz",
        "--threshold",
        "0.9",
        "--show",
        "2",
        "-o",
        tmp_path / "g.html",
        "--images",
        quick_run,
    )
    assert "exactly the bytes" not in out and "a page with 2 groups" in out
    page = Tags((tmp_path / "g.html").read_text())
    assert sum(tag == "img" for tag, _ in page.tags) >= 4
