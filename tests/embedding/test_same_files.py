"""Tests of links and files of the same content."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ssl_lib.embedding import same_files
from ssl_lib.errors import DataError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    for name, content in {
        "m/a": b"first",
        "m/b": b"other",
        "m/c": b"first",
        "m/d": b"longer text",
        "z/e": b"other",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def originals(root, *paths):
    found = same_files(root, paths)
    assert sorted(found.order) == sorted({row for row in found.original.tolist()} - set(found.repeated.tolist()))
    return {path: paths[row] for path, row in zip(paths, found.original.tolist(), strict=True)}


def test_files_of_equal_bytes_have_the_first_as_original(root):
    assert originals(root, "m/a", "m/b", "m/c", "m/d", "z/e") == {
        "m/a": "m/a",
        "m/b": "m/b",
        "m/c": "m/a",
        "m/d": "m/d",
        "z/e": "m/b",
    }


def test_large_files_that_differ_in_the_last_byte_differ(root):
    for name, last in (("x", b"1"), ("y", b"2"), ("z1", b"1")):
        (root / name).write_bytes(bytes(3 << 20) + last)
    assert originals(root, "x", "y", "z1") == {"x": "x", "y": "y", "z1": "x"}


def test_links_are_never_the_original(root):
    os.symlink(root / "m" / "d", root / "a_link")
    os.symlink("../m/b", root / "z" / "b_link")  # also equal to z/e by content
    os.link(root / "m" / "d", root / "b_hard")
    assert originals(root, "a_link", "b_hard", "m/d") == {"a_link": "b_hard", "b_hard": "b_hard", "m/d": "b_hard"}
    assert originals(root, "a_link", "m/d") == {"a_link": "m/d", "m/d": "m/d"}
    assert originals(root, "z/b_link", "z/e") == {"z/b_link": "z/e", "z/e": "z/e"}
    found = same_files(root, ["a_link", "m/a", "z/b_link", "m/b"])
    assert found.order.tolist() == [1, 3, 0]  # files before links, also among near-duplicates
    assert originals(root, "a_link", "z/b_link") == {"a_link": "a_link", "z/b_link": "z/b_link"}


def test_one_file_counts_once_however_its_folder_is_named(root):
    os.symlink(root / "m", root / "b_folder")
    paths = ["b_folder/a", "b_folder/b", "m/a", "m/c", "z/e"]
    found = same_files(root, paths)
    assert found.repeated.tolist() == [0]  # deleting b_folder/a would delete m/a
    assert found.original.tolist() == [0, 4, 2, 2, 4]  # m/b is only named through the link: it is a copy of z/e
    assert found.order.tolist() == [2, 4]
    assert [group.tolist() for group in found.with_copies([])] == [[2, 3], [4, 1]]


def test_path_that_is_named_twice_counts_once(root):
    found = same_files(root, ["m/a", "m/d", "m/a"])
    assert found.repeated.tolist() == [2] and found.order.tolist() == [0, 1] and found.with_copies([]) == []


def test_link_to_a_folder_entry_is_dropped_before_the_entry(root):
    """Keeping the link and dropping its target, named through a linked folder, would leave neither."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "t").write_bytes(b"target")
    os.symlink(outside / "t", root / "a_link")
    os.symlink(outside, root / "b_folder")
    assert originals(root, "a_link", "b_folder/t") == {"a_link": "b_folder/t", "b_folder/t": "b_folder/t"}


def test_root_may_be_a_link(root, tmp_path):
    os.symlink(root, tmp_path / "linked_root")
    found = same_files(tmp_path / "linked_root", ["m/a", "m/c"])
    assert found.original.tolist() == [0, 0] and not len(found.repeated)


def test_copies_join_the_groups_of_their_originals(root):
    found = same_files(root, ["m/a", "m/b", "m/c", "m/d", "z/e"])  # m/c copies m/a, z/e copies m/b
    assert [g.tolist() for g in found.with_copies([])] == [[0, 2], [1, 4]]
    assert [g.tolist() for g in found.with_copies([np.array([3, 1])])] == [[0, 2], [3, 1, 4]]
    assert [g.tolist() for g in found.with_copies([np.array([0, 1, 3])])] == [[0, 1, 2, 3, 4]]


def test_missing_and_broken_files_are_named(root):
    os.symlink(root / "nowhere", root / "broken")
    for name in ("m/absent", "broken"):
        with pytest.raises(DataError, match=f"{name} cannot be read .*--images"):
            same_files(root, ["m/a", name])
