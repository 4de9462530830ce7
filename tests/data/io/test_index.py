from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from ssl_lib.data import FolderData
from ssl_lib.data.io import index
from ssl_lib.data.io.formats import EXTENSIONS
from ssl_lib.data.io.index import list_images
from ssl_lib.errors import DataError

LONG_AGO = 1_000_000_000


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder, set up so that trees of any size are cached and recent time stamps are trusted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_CACHED_FROM", 0)
    monkeypatch.setattr(index, "_SETTLED_AFTER", 0)
    return tmp_path / "cache" / "ssl_lib"


@pytest.fixture
def root(tmp_path):
    for name in ("b/2.png", "b/10.JPG", "b.png", "a/x/y/1.webp", "a/0.tif", "a/z.bmp", "a.b/1.jpeg", "c/1.txt"):
        add(tmp_path / "root" / name)
    return tmp_path / "root"


def add(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def listed(root):
    return list(list_images(str(root)).paths)


def walked(root):
    """Lists the images with pathlib, sorted by the parts of their paths."""
    relative = (path.relative_to(root) for path in Path(root).rglob("*") if path.name.lower().endswith(EXTENSIONS))
    return [str(path) for path in sorted(relative, key=lambda path: path.parts) if not hidden(path)]


def hidden(path):
    return any(part.startswith(".") for part in path.parts)


def wait_for_tick():
    """Waits for the next tick of the file system clock, so that later changes get a different time stamp."""
    time.sleep(0.02)


def scanned(monkeypatch, root):
    """Lists the images; returns the folders that were scanned, and the images."""
    names, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: names.append(os.path.relpath(path, root)) or scandir(path))
    images = listed(root)
    monkeypatch.setattr(os, "scandir", scandir)
    return sorted(names), images


def test_images_are_sorted_by_path_parts(root):
    assert listed(root) == walked(root)
    assert list_images(str(root)).images == [
        ("a/", ["0.tif"]),
        ("a/x/y/", ["1.webp"]),
        ("a/", ["z.bmp"]),
        ("a.b/", ["1.jpeg"]),
        ("b/", ["10.JPG", "2.png"]),
        ("", ["b.png"]),
    ]


@pytest.mark.usefixtures("cache")
def test_only_changed_folders_are_listed_again(root, monkeypatch):
    wait_for_tick()
    all_folders = sorted(os.path.relpath(path, root) for path, _, _ in os.walk(root))
    assert scanned(monkeypatch, root) == (all_folders, walked(root))
    assert scanned(monkeypatch, root) == ([], walked(root))
    for change, folders in (
        (lambda: add(root / "b/3.png"), ["b"]),
        (lambda: (root / "a/x/y/1.webp").unlink(), ["a/x/y"]),
        (lambda: (root / "b/3.png").rename(root / "b/4.png"), ["b"]),
        (lambda: (root / "b/4.png").rename(root / "c/4.png"), ["b", "c"]),
        (lambda: add(root / "new/deep/1.png"), [".", "new", "new/deep"]),
        (lambda: shutil.rmtree(root / "new"), ["."]),
        (lambda: (root / "c").rename(root / "d"), [".", "d"]),
        (lambda: (add(root / "b/5.png"), os.utime(root / "b", (LONG_AGO, LONG_AGO))), ["b"]),
        (lambda: (root / "b/2.png").write_bytes(b"changed content"), []),
    ):
        change()
        wait_for_tick()
        assert scanned(monkeypatch, root) == (folders, walked(root))
        assert scanned(monkeypatch, root) == ([], walked(root))


@pytest.mark.usefixtures("cache")
def test_random_changes_are_detected(root):
    draw = random.Random(0)
    for _ in range(60):
        folders = sorted(path for path in (root, *root.rglob("*")) if path.is_dir())
        images = sorted(path for path in root.rglob("*") if path.is_file())
        action = draw.choice(["file", "file", "folder", "remove", "move", "hide"])
        if action in ("file", "folder"):
            add(draw.choice(folders) / (f"{draw.random()}.png" if action == "file" else f"{draw.random()}/1.jpg"))
        elif images:
            image = draw.choice(images)
            target = {"hide": image.with_name(f".{image.name}"), "move": draw.choice(folders) / image.name}
            image.rename(target[action]) if action in target else image.unlink()
        wait_for_tick()
        assert listed(root) == walked(root)


def test_folders_with_recent_time_stamps_are_listed_again(root, cache, monkeypatch):
    monkeypatch.setattr(index, "_SETTLED_AFTER", 3600 * 10**9)
    all_folders = scanned(monkeypatch, root)
    assert next(cache.iterdir()).suffix == ".npz"
    assert scanned(monkeypatch, root) == all_folders


@pytest.mark.usefixtures("cache")
def test_links_to_folders_are_followed_if_their_target_changes(tmp_path, root):
    for name in ("one/1.png", "two/2.png", "two/sub/3.png"):
        add(tmp_path / name)
    (root / "link").symlink_to(tmp_path / "one")
    (root / "dangling").symlink_to(tmp_path / "later")
    (root / "image.png").symlink_to(tmp_path / "one" / "1.png")
    wait_for_tick()
    assert [name for name in listed(root) if "link" in name] == ["link/1.png"]
    (tmp_path / "one").rename(tmp_path / "old")  # does not change the root
    (tmp_path / "two").rename(tmp_path / "one")
    add(tmp_path / "later/4.png")
    assert [name for name in listed(root) if "link" in name] == ["link/2.png", "link/sub/3.png"]
    assert "dangling/4.png" in listed(root) and "image.png" in listed(root)


@pytest.mark.usefixtures("cache")
def test_link_loop_raises_an_error_with_and_without_the_cache(root):
    (root / "a/x/back").symlink_to(root / "a")
    wait_for_tick()
    for _ in range(2):
        with pytest.raises(DataError, match="a/x/back is a link to a folder above it"):
            list_images(str(root))


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-50], lambda content: b"no archive"])
def test_damaged_cache_is_replaced(root, cache, damage, monkeypatch):
    wait_for_tick()
    expected = listed(root)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert listed(root) == expected
    assert (file,) == tuple(cache.iterdir())
    assert scanned(monkeypatch, root) == ([], expected)


def test_cache_that_cannot_be_written_is_not_used(root, tmp_path, cache):
    (tmp_path / "cache").write_text("a file, not a folder")
    assert listed(root) == walked(root)


def test_small_trees_are_not_cached(root, cache, monkeypatch):
    monkeypatch.setattr(index, "_CACHED_FROM", 10_000)
    listed(root)
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_each_root_has_its_own_cache_and_a_link_uses_the_cache_of_its_target(root, tmp_path, cache):
    wait_for_tick()
    (tmp_path / "link").symlink_to(root)
    assert listed(root) == listed(tmp_path / "link") != listed(root / "a")
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("cache")
def test_folder_data_of_a_cached_tree_is_equal(root):
    (root / "b.png").unlink()
    shutil.rmtree(root / "c")
    wait_for_tick()
    first, second = FolderData(root), FolderData(root)
    assert [first.path(i) for i in range(len(first))] == [str(root / name) for name in walked(root)]
    assert [second.path(i) for i in range(len(second))] == [first.path(i) for i in range(len(first))]
    assert second.labels.tolist() == first.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert second.class_names == first.class_names == ("a", "a.b", "b")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
@pytest.mark.usefixtures("cache")
def test_cache_supports_unusual_file_names(root):
    for name in (b"\xff\xfe.png", b"a b\n.png", "日本.png".encode(), b"x y/1 2.png"):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()
    wait_for_tick()
    assert listed(root) == listed(root) == walked(root)
