"""Splits of image folders: found where they are expected, refused where images of several would be trained on."""

from __future__ import annotations

import os

import pytest

from ssl_lib.data import FolderData, image_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.errors import DataError
from tests.data.datasets.test_layout import classes, names, tree


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train2017", "training_set"])
@pytest.mark.parametrize("test", ["val", "Valid", "VALIDATION", "dev", "test", "Testing", "val2017", "test_set"])
def test_usual_names_of_splits_are_recognized_in_any_case(tmp_path, train, test):
    tree(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/dog/3.png")
    for layout in ("auto", "splits"):
        data = image_folder(tmp_path, layout=layout)
        assert (names(data), classes(data)) == (["cat/1.png", "dog/2.png"], ["cat", "dog"])
        held = image_folder(tmp_path, layout=layout, split="test")
        assert (names(held), held.labels.tolist(), held.class_names) == (["dog/3.png"], [1], ("cat", "dog"))
    assert image_folder(tmp_path, split="bank") is None


def test_validation_is_preferred_to_test(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "test/a/3.png")
    with pytest.warns(DataWarning, match=r"uses val/, and test/ is not used: .* set data.test_root=.*test$"):
        assert names(image_folder(tmp_path, split="test")) == ["a/2.png"]
    with pytest.raises(DataError, match="no class 'new'; their 2 classes are a, b"):
        image_folder(tree(tmp_path, "val/new/1.png"), split="test")


@pytest.mark.parametrize(
    ("extra", "found"),
    [("notes/x.png", "notes/"), ("x.jpg", r"x\.jpg"), ("bus/1.png", r"bus/"), ("Test2/a/1.png", "Test2/")],
)
def test_anything_next_to_a_split_is_an_error_that_names_the_choices(tmp_path, extra, found):
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", extra)
    with pytest.raises(DataError, match=rf"has the split train/, and next to it {found}.*splits, classes or flat"):
        image_folder(tmp_path)
    assert len(image_folder(tmp_path, exclude=(extra.split("/")[0],))) == 2
    with pytest.warns(DataWarning, match=f"layout=splits ignores {found}"):
        assert len(image_folder(tmp_path, layout="splits")) == 2


SPLITS = ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png")


@pytest.mark.parametrize(
    ("files", "place", "found"),
    [
        (SPLITS, "", "train/ and val/"),
        ([f"photos/{name}" for name in SPLITS], "photos", "train/ and val/"),
        (["x/1.png", *(f"a/b/{name}" for name in SPLITS)], "a/b", "train/ and val/"),
        (["cat/train/1.png", "cat/Test/2.png", "dog/train/3.png"], "cat", "Test/ and train/"),
    ],
    ids=["at the top", "one level deeper", "two levels deeper", "below the classes"],
)
def test_splits_that_would_be_used_together_are_refused(tmp_path, files, place, found):
    tree(tmp_path, *files)
    options = {} if files is SPLITS else {"image_folder": lambda: image_folder(tmp_path)}
    ways = {
        "FolderData": lambda: FolderData(tmp_path),
        "several roots": lambda: FolderData([tree(tmp_path.parent / "other", "cat/1.png", "dog/1.png"), tmp_path]),
        "bank_root": lambda: image_folder(tree(tmp_path.parent / "wild", "1.png"), bank_root=tmp_path, split="bank"),
        **options,
    }
    for name, way in ways.items():
        if name == "image_folder" and place == "":  # the splits of the data set itself
            continue
        with pytest.raises(DataError, match=f"{tmp_path / place}/? has {found}, named like splits") as error:
            way()
        assert "data.layout=classes" in str(error.value) and "data.exclude=[" in str(error.value)
    everything = FolderData(tmp_path, layout="flat")
    assert len(everything) == len(files) and everything.labels is None
    assert len(FolderData(tmp_path, layout="classes" if files[0][1] != "/" else "flat")) == len(files)


def test_the_choices_of_the_message_work(tmp_path):
    root = tree(tmp_path / "root", "cat/train/1.png", "cat/val/2.png", "dog/train/3.png", "dog/val/4.png")
    data = image_folder(root, exclude=("val",), hold_out=0)
    assert names(data) == ["cat/train/1.png", "dog/train/3.png"] and classes(data) == ["cat", "dog"]
    listed = tmp_path / "list.txt"
    listed.write_text("cat/train/1.png\n")
    assert names(FolderData(root, files=listed)) == ["cat/train/1.png"]


def test_classes_may_be_named_like_splits(tmp_path):
    assert classes(FolderData(tree(tmp_path / "a", "car/1.png", "train/2.png"))) == ["car", "train"]
    both = tree(tmp_path / "b", "test/1.png", "train/2.png")
    assert classes(FolderData(both, class_names=("test", "train"))) == ["test", "train"]
    assert classes(FolderData(both, layout="classes")) == ["test", "train"]
    vehicles = tree(tmp_path / "c", "train/bus/1.png", "train/train/2.png", "test/bus/3.png", "test/train/4.png")
    for layout in ("auto", "splits"):
        assert classes(image_folder(vehicles, layout=layout)) == ["bus", "train"]
        assert classes(image_folder(vehicles, layout=layout, split="test")) == ["bus", "train"]
    wild = tree(tmp_path / "d", "1.png")
    assert classes(image_folder(wild, bank_root=vehicles / "train", split="bank", hold_out=0)) == ["bus", "train"]


def test_splits_in_two_roots_are_refused(tmp_path):
    tree(tmp_path, "x/train/cat/1.png", "y/val/cat/2.png", "y/val/dog/3.png")
    with pytest.raises(DataError, match=f"{tmp_path}/ has (train/ and val|val/ and train)/, named like splits"):
        image_folder([str(tmp_path / "x"), str(tmp_path / "y")])


@pytest.mark.parametrize(
    "exclude",
    [
        ["*/bad"],
        ["t*/bad", "v*/bad"],
        ["/train/bad", "/val/bad"],
        ["{root}/*/bad"],
        ["**/train/bad", "**/val/bad"],
        ["bad"],
        ["{root}/train/bad", "{root}/val/bad"],
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_patterns_from_the_root_leave_out_classes_of_the_splits(tmp_path, exclude, linked):
    files = [f"{split}/{name}/1.png" for split in ("train", "val") for name in ("bad", "cat", "dog", "cat/bad")]
    root = tree(tmp_path / "data", *files)
    if linked:
        for split in ("train", "val"):
            (root / split).rename(tmp_path / f"real {split}")
            (root / split).symlink_to(tmp_path / f"real {split}")
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    patterns = tuple(pattern.format(root=root) for pattern in exclude)
    deeper = [] if exclude == ["bad"] else ["cat/bad/1.png"]
    for split in ("train", "test"):
        assert names(image_folder(root, exclude=patterns, split=split)) == ["cat/1.png", *deeper, "dog/1.png"]


def test_patterns_from_the_root_match_in_its_splits(tmp_path):
    tree(tmp_path, "train/a/raw/1.png", "train/a/2.png", "train/b/3.png", "val/a/4.png", "val/b/raw/5.png", "old/6.png")
    exclude = ("train/a/raw", "val/b", "old")
    assert names(image_folder(tmp_path, exclude=exclude)) == ["a/2.png", "b/3.png"]
    assert names(image_folder(tmp_path, exclude=exclude, split="test")) == ["a/4.png"]


def test_patterns_hold_for_the_folders_next_to_splits(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "notes/x.png", "more/figures/y.png")
    assert len(image_folder(tmp_path, exclude=("x.png", "more/figures"))) == 2
    os.symlink(tmp_path, tmp_path / "notes" / "loop")
    with pytest.raises(DataError, match=r"notes/loop is a link to a folder above it: .* data\.exclude"):
        image_folder(tmp_path, exclude=("x.png", "more"))
    assert len(image_folder(tmp_path, exclude=("x.png", "more", "loop"))) == 2


def test_a_loop_of_links_names_the_link(tmp_path):
    root = tree(tmp_path / "root", "a/1.png")
    os.symlink(tmp_path, root / "a" / "up")  # the loop closes one folder deeper, in up/root
    with pytest.raises(DataError, match=rf"^{root}/a/up is a link to a folder above it"):
        FolderData(root)
    assert names(FolderData(root, exclude=["up"])) == ["a/1.png"]


@pytest.mark.parametrize("path", ["a/1.png", "train/a/1.png"])
def test_lists_name_images_from_the_split_or_from_its_root(tmp_path, path):
    root = tree(tmp_path / "root", "train/a/1.png", "train/b/2.png", "train/b/3.png", "val/a/4.png", "val/b/5.png")
    files, labels, test = tmp_path / "list.txt", tmp_path / "labels.csv", tmp_path / "test.csv"
    files.write_text(f"{path}\n")
    assert names(image_folder(root, files=files)) == ["a/1.png"]
    labels.write_text(f"path,class\n{path},new\n{path.replace('a/1', 'b/2')},other\n")
    test.write_text(f"path,class\n{path.replace('a/1', 'a/4').replace('train', 'val')},new\n")
    with pytest.warns(DataWarning, match="have no class in it and are left out"):
        assert classes(image_folder(root, labels=labels, test_labels=test)) == ["new", "other"]
        assert names(image_folder(root, labels=labels, test_labels=test, split="test")) == ["a/4.png"]
