"""Files and folders that are links to others of the same data set, or of the test set."""

from __future__ import annotations

import os
import pickle
import warnings

import pytest
import torch
from PIL import Image

from ssl_lib.data import FolderData, image_folder, leakage
from ssl_lib.data.base import DataWarning
from ssl_lib.data.datasets.links import RealPaths
from ssl_lib.data.io import index
from ssl_lib.data.leakage import shared_images


def tree(root, *names):
    for value, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(root / name)
    return root


def link(place, target):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target, target_is_directory=target.is_dir())


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "root", "cat/1.png", "cat/2.png", "cat/old/3.png", "dog/4.png", "dog/5.png")


@pytest.mark.parametrize(
    ("place", "target", "message"),
    [
        (
            "bird",
            "cat",
            "bird/1.png and cat/1.png are the same .* link (such pairs: 3, in two classes: 3)",
        ),
        ("dog/raw", "cat/old", "cat/old/3.png and dog/raw/3.png are .* (such pairs: 1, in two classes: 1)"),
        ("cat/new", "cat/old", "cat/new/3.png and cat/old/3.png are .* (such pairs: 1, in two classes: 0)"),
        ("dog/9.png", "cat/2.png", "cat/2.png and dog/9.png are .* (such pairs: 1, in two classes: 1)"),
        ("cat/0.png", "cat/2.png", "cat/0.png and cat/2.png are .* (such pairs: 1, in two classes: 0)"),
    ],
)
def test_images_that_are_listed_twice_through_links_are_reported(root, place, target, message):
    link(root / place, root / target)
    with pytest.warns(DataWarning, match=message.replace("(", "\\(").replace(")", "\\)")) as shown:
        FolderData(root)
    assert len(shown) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        FolderData(root, exclude=[place])


def test_links_of_two_roots_and_the_chosen_files_decide(root, tmp_path):
    other = tree(tmp_path / "other", "dog/6.png", "cow/7.png")
    link(other / "cow" / "again", root / "dog")
    with pytest.warns(DataWarning, match=r"root/dog/4.png and other/cow/again/4.png .* pairs: 2, in two classes: 2"):
        FolderData([root, other])
    (tmp_path / "list.txt").write_text(
        "root/dog/4.png\nother/cow/again/5.png\n".replace("root/", "").replace("other/", "")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert len(FolderData([root, other], files=tmp_path / "list.txt")) == 2


def test_links_to_files_elsewhere_are_images_like_others(root, tmp_path):
    stored = tree(tmp_path / "store", "a.png", "b.png")
    link(root / "dog" / "a.png", stored / "a.png")
    link(root / "more" / "b.png", stored / "b.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert FolderData(root).class_names == ("cat", "dog", "more")
    link(root / "dog" / "again.png", stored / "b.png")  # two links to one file
    with pytest.warns(DataWarning, match=r"dog/again.png and more/b.png are the same file, .* in two classes: 1"):
        FolderData(root)


def test_links_are_known_from_the_cache(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_CACHED_FROM", 0)
    monkeypatch.setattr(index, "_SETTLED_AFTER", -(10**9))
    link(root / "dog" / "0.png", root / "cat" / "1.png")
    first = index.list_images(str(root))
    scans = []
    monkeypatch.setattr(index, "_scan", lambda *arguments: scans.append(arguments))
    again = index.list_images(str(root))
    assert again == first and again.links == ["dog/0.png"] and not scans
    assert list(again.paths)[:4] == ["cat/1.png", "cat/2.png", "cat/old/3.png", "dog/0.png"]


@pytest.mark.parametrize("most", [0, leakage._MOST])
def test_test_images_that_are_links_to_training_images_are_found_in_sets_of_any_size(root, tmp_path, most, monkeypatch):
    monkeypatch.setattr(leakage, "_MOST", most)
    test = tmp_path / "test"
    link(test / "cat", root / "cat")
    link(test / "dog" / "x.png", root / "dog" / "5.png")
    link(test / "dog" / "y.png", test / "dog" / "x.png")
    link(tmp_path / "same", root)
    train = FolderData(tmp_path / "same")
    with pytest.warns(DataWarning, match="dog/x.png and dog/y.png are the same file"):
        data = FolderData(test)
    names = [(data.name(one), train.name(other)) for one, other in shared_images(train, data)]
    expected = [(f"cat/{name}", f"cat/{name}") for name in ("1.png", "2.png", "old/3.png")]
    assert names == [*expected, ("dog/x.png", "dog/5.png"), ("dog/y.png", "dog/5.png")]


def test_a_link_that_is_held_out_is_found_in_the_training_images(root, monkeypatch):
    monkeypatch.setattr(leakage, "_MOST", 0)
    for number in range(20):
        link(root / "dog" / f"link{number}.png", root / "dog" / "4.png")
    with pytest.warns(DataWarning) as shown:
        train, test = (image_folder(root, hold_out=0.3, split=split) for split in ("train", "test"))
    assert "such pairs: 20, in two classes: 0" in str(shown[0].message)
    same = [position for position in range(len(test)) if test.name(position).startswith(("dog/link", "dog/4"))]
    assert same and [position for position, _ in shared_images(train, test)] == same
    part = pickle.loads(pickle.dumps(test)).subset(torch.tensor(same[:1]))
    assert part.place(0) == train.place(shared_images(train, test)[0][1])


def test_real_paths_equal_those_of_the_standard_library(root, tmp_path):
    link(tmp_path / "a", root / "cat")
    link(root / "cat" / "x.png", root / "cat" / ".." / "dog" / "4.png")
    os.symlink("../a/x.png", root / "dog" / "y.png")
    os.symlink("../../a/old/../2.png", root / "dog" / "z.png")
    os.symlink("nowhere.png", root / "dog" / "broken.png")
    os.symlink("loop.png", root / "dog" / "loop.png")
    real = RealPaths()
    for name in ("a/x.png", "a/1.png", "root/dog/y.png", "root/dog/z.png", "root/dog/broken.png", "root/dog/4.png"):
        path = str(tmp_path / name)
        assert real(path, os.path.islink(path)) == os.path.realpath(path)
    assert real(str(root / "dog" / "loop.png"), True) == str(root / "dog" / "loop.png")
