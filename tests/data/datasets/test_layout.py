"""Splits, class folders, lists of files and tables of labels of image folders."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from PIL import Image

from ssl_lib.data import FolderData, image_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.data.io.patterns import excluded
from ssl_lib.errors import DataError

TINY = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        TINY.save(root / name, "PNG")
    return root


def names(data):
    return [data.name(index) for index in range(len(data))]


def classes(data):
    return [data.class_names[label] for label in data.labels]


def test_layouts_that_ignore_splits(tmp_path):
    tree(tmp_path, "train/1.png", "bus/1.png", "dev/1.png")
    data = image_folder(tmp_path, layout="classes", hold_out=0)
    assert classes(data) == ["bus", "dev", "train"]
    assert image_folder(tmp_path, layout="classes", hold_out=0, split="test") is None
    flat = image_folder(tmp_path, layout="flat")
    assert flat.labels is None and len(flat) == 3 and image_folder(tmp_path, layout="flat", split="test") is None


@pytest.mark.parametrize(
    ("files", "layout", "message"),
    [
        (
            ["val/a/1.png", "x/a/1.png"],
            "auto",
            r"no training split \(train or training\); found val/, x/: set",
        ),
        (["a/1.png", "b/1.png"], "splits", "has no training split .* found a/, b/"),
        (["train/a/1.png", "Train2/1.png", "training/b/1.png"], "auto", r"has train, training for one split"),
        (["a/1.png", "b/1.png", "c.png"], "classes", r"c\.png is not in a class folder: move it"),
        (["c.png"], "classes", r"c\.png is not in a class folder"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(tmp_path, files, layout, message):
    with pytest.raises(DataError, match=message):
        image_folder(tree(tmp_path, *files), layout=layout)


def test_image_next_to_class_folders_is_named(tmp_path):
    tree(tmp_path, "a/1.png", "b/2.png", "c.png")
    with pytest.warns(DataWarning, match=r"c\.png is next to 2 folders, so they are not classes"):
        assert FolderData(tmp_path).labels is None
    assert FolderData(tmp_path, layout="flat").labels is None
    assert classes(FolderData(tmp_path, exclude=["c.png"])) == ["a", "b"]


def test_images_and_masks_are_taken_as_classes_with_a_warning(tmp_path):
    tree(tmp_path, "images/1.png", "Masks/1.png")
    with pytest.warns(
        DataWarning, match=r"Masks, images and 0 other folders are taken as classes: set data\.layout=flat"
    ):
        assert FolderData(tmp_path).class_names == ("Masks", "images")
    assert FolderData(tmp_path, layout="classes").class_names == ("Masks", "images")
    assert FolderData(tmp_path, exclude=["Masks"]).labels is None


def test_wrong_layout_or_excluding_everything_raises_an_error(tmp_path):
    tree(tmp_path, "1.png")
    for open_folder in (FolderData, image_folder):
        with pytest.raises(ValueError, match="layout must be one of auto, splits, classes, flat, got 'split'"):
            open_folder(tmp_path, layout="split")
    with pytest.raises(DataError, match=r"no images .* after data\.exclude=\['\*\.png'\]"):
        FolderData(tmp_path, exclude=["*.png"])


@pytest.mark.parametrize("inside", ["root", "root/train"])
def test_test_and_bank_roots_inside_the_root_are_exempt_and_not_trained_on(tmp_path, inside):
    tree(tmp_path, "root/train/a/1.png", "root/train/b/2.png", f"{inside}/mine/a/3.png", f"{inside}/known/b/4.png")
    roots = {"test_root": str(tmp_path / inside / "mine"), "bank_root": tmp_path / inside / "known"}
    if inside == "root/train":
        (tmp_path / "link").symlink_to(tmp_path / "root")
    root = tmp_path / ("link" if inside == "root/train" else "root")
    assert names(image_folder(root, **roots)) == ["a/1.png", "b/2.png"]
    assert names(image_folder(root, **roots, split="test")) == ["a/3.png"]


def test_several_roots_share_their_classes(tmp_path):
    tree(tmp_path, "x/a/1.png", "x/b/1.png", "y/b/1.png", "y/c/1.png", "z/1.png")
    data = image_folder([str(tmp_path / "x"), str(tmp_path / "y")], hold_out=0)
    assert names(data) == ["x/a/1.png", "x/b/1.png", "y/b/1.png", "y/c/1.png"]
    assert classes(data) == ["a", "b", "b", "c"]
    with pytest.raises(DataError, match="some folders have class folders, others do not"):
        FolderData([tmp_path / "x", tmp_path / "z"])
    with pytest.raises(DataError, match="layout=splits needs one root"):
        image_folder([tmp_path / "x", tmp_path / "y"], layout="splits")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for other in ("x", "x/a", "link", "link/b", "."):
        with pytest.raises(DataError, match="contain the same images"):
            FolderData([tmp_path / "x", tmp_path / other])
    with pytest.raises(DataError, match="root is empty"):
        FolderData([])


@pytest.mark.parametrize("second", ["b", "a", "b/deep"])
def test_the_classes_of_several_roots_are_the_union_of_theirs(tmp_path, second):
    tree(tmp_path, "x/a/1.png", f"y/{second}/1.png")
    data = FolderData([tmp_path / "x", tmp_path / "y"])
    assert data.class_names == (() if second == "a" else ("a", "b"))
    assert data.labels is None if second == "a" else data.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("*.png", {"1.png", "thumbs/2.png", "a/thumbs/3.png", "a/b/[1].png"}),
        ("thumbs", {"thumbs/2.png", "a/thumbs/3.png"}),
        ("thumbs/", {"thumbs/2.png", "a/thumbs/3.png"}),
        ("**/thumbs", {"thumbs/2.png", "a/thumbs/3.png"}),
        ("/thumbs", {"thumbs/2.png"}),
        ("a/thumbs", {"a/thumbs/3.png"}),
        ("a/*/*.png", {"a/thumbs/3.png", "a/b/[1].png"}),
        ("**/b/*.png", {"a/b/[1].png"}),
        ("[[]1].png", {"a/b/[1].png"}),
        ("*.PNG", set()),
        ("humbs", set()),
    ],
)
def test_excluded_patterns(tmp_path, pattern, left_out):
    everything = {"1.png", "thumbs/2.png", "a/thumbs/3.png", "a/b/[1].png", "x.jpg"}
    tree(tmp_path, *everything)
    assert set(names(FolderData(tmp_path, layout="flat", exclude=[pattern]))) == everything - left_out
    assert set(names(FolderData(tmp_path, layout="flat", exclude=pattern))) == everything - left_out
    assert not excluded("x.jpg", ())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_unusual_names_are_images_like_others(tmp_path):
    odd = ["a/#1.png", "a/x#2.png", "b/*.png", "b/[x].png", "b/ü\n.png"]
    tree(tmp_path, *odd)
    os.rename(tmp_path / "a/#1.png", os.fsencode(tmp_path) + b"/a/\xff.png")
    data = FolderData(tmp_path)
    assert sorted(names(data)) == sorted([*odd[1:], os.fsdecode(b"a/\xff.png")])
    assert all(data.read(index).shape == (3, 4, 4) for index in range(5))
    (tmp_path / "list.txt").write_bytes(b"a/\xff.png\nb/[x].png\n")
    with pytest.warns(DataWarning, match=r"1 \.txt"):
        assert len(FolderData(tmp_path, layout="flat", files=tmp_path / "list.txt")) == 2


@pytest.mark.parametrize(
    ("files", "pairs", "fix"),
    [
        (
            ["0.jpg", "0.png", "1.jpg", "1.png"],
            "2 images .* such as x/0.jpg and x/0.png",
            r"data\.exclude=\['\*\.png'\]$",
        ),
        (
            ["0.png", "0_mask.png", "1.png", "1_mask.tif"],
            "2 images .* x/0.png and x/0_mask.png",
            r"=\['\*_mask\.\*'\]$",
        ),
        (["a.png", "a-Seg.png", "b_label.png"], "1 images .* x/a.png and x/a-Seg.png", r"=\['\*-Seg\.\*'\]$"),
        (["0.jpg", "0.png", "1.png", "2.png"], "1 images .*", r", or list the images in data\.files$"),
        (["0.png", "0_mask.png", "1_mask.png"], "1 images .*", r", or list the images in data\.files$"),
    ],
)
def test_files_that_may_be_masks_are_reported_with_a_pattern_that_leaves_out_nothing_else(tmp_path, files, pairs, fix):
    tree(tmp_path, *(f"x/{name}" for name in files))
    with pytest.warns(
        DataWarning, match=rf"{pairs}.*if these are masks, leave them out with (data.exclude)?{fix}"
    ) as shown:
        assert len(FolderData(tmp_path)) == len(files)
    assert len(shown) == 1


def test_names_that_only_look_like_masks_are_not_reported(tmp_path):
    tree(tmp_path, "0_mask.png", "mask.png", "1_left.png", "1.png", "labels.png")
    assert len(FolderData(tmp_path)) == 5


def test_a_class_without_a_readable_file_is_refused_although_such_files_are_skipped(tmp_path):
    tree(tmp_path, "a/1.png", "b/2.png")
    for name in ("b/0.png", "c/1.png", "c/2.tif", "c/3.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=f"class 'c' of {tmp_path}: none of the 3 files can be read as an image"):
        image_folder(tmp_path, on_error="skip")
    assert names(FolderData(tmp_path, on_error="skip", exclude=["c"])) == ["a/1.png", "b/0.png", "b/2.png"]


def test_the_pattern_that_an_empty_class_suggests_is_not_reported_as_useless(tmp_path):
    tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "hat").mkdir()
    with pytest.raises(DataError, match=r"data\.exclude=\[hat\]"):
        image_folder(tmp_path)
    assert len(image_folder(tmp_path, exclude=("hat",), hold_out=0)) == 2
