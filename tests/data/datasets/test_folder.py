from __future__ import annotations

import os
import shutil
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from ssl_lib.data import FolderData, ImageData, SkipImage, image_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)


def add(path, image=COLOR, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def test_images_and_labels_equal_torchvision_image_folder(tmp_path):
    for index, name in enumerate(["b/1.png", "b/2.jpg", "b/3.JPEG", "a/4.webp", "a/5.bmp", "a/x/6.tif", "c/7.tiff"]):
        add(tmp_path / name, RNG.integers(0, 256, (9 + index, 12, 3), dtype=np.uint8))
    data, reference = FolderData(tmp_path), ImageFolder(tmp_path, transform=pil_to_tensor)
    assert data.class_names == tuple(reference.classes)
    assert data.labels.tolist() == reference.targets
    assert len(data) == len(reference) == 7
    for index, (image, _) in enumerate(reference):
        assert torch.equal(data.read(index), image)


def test_class_folders_give_labels(tmp_path):
    for name in ("zebra/2.png", "zebra/10.PNG", "ant/deep/er/1.jpeg", "ant/0.tiff", "ant/note.txt", "ant/.hidden.png"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("not an image")
        else:
            shutil.move(add(tmp_path / "x.png" if name.endswith("PNG") else tmp_path / name), tmp_path / name)
    with pytest.warns(DataWarning, match=r"left out 1 \.txt"):
        data = DATASETS["image_folder"](tmp_path, hold_out=0)
    assert isinstance(data, ImageData)
    assert data.class_names == ("ant", "zebra")
    assert data.labels.tolist() == [0, 0, 1, 1] and data.labels.dtype == torch.int64
    names = [os.path.relpath(data.path(index), tmp_path) for index in range(len(data))]
    assert names == ["ant/0.tiff", "ant/deep/er/1.jpeg", "zebra/10.PNG", "zebra/2.png"]
    np.testing.assert_array_equal(data.read(3).permute(1, 2, 0).numpy(), COLOR)


@pytest.mark.parametrize(
    "names",
    [["a.png", "b.webp"], ["one/a.png", "one/b.png"], ["x/a/1.png", "x/b/2.png"], ["a/1.png", "b.png"]],
)
def test_trees_without_class_folders_have_no_labels(tmp_path, names):
    for name in names:
        add(tmp_path / name)
    data = FolderData(tmp_path)
    assert data.labels is None and data.class_names == () and len(data) == len(names)


def test_bank_root_and_test_root(tmp_path):
    for name in ("wild/1.png", "bank/a/1.png", "bank/b/1.png", "test/b/1.png"):
        add(tmp_path / name)
    roots = {"bank_root": tmp_path / "bank", "test_root": tmp_path / "test"}
    assert image_folder(tmp_path / "wild", **roots).labels is None
    assert image_folder(tmp_path / "wild", **roots, split="bank").labels.tolist() == [0, 1]
    assert image_folder(tmp_path / "wild", **roots, split="test").labels.tolist() == [1]
    with pytest.raises(DataError, match="test images need labels"):
        image_folder(tmp_path / "bank", test_root=tmp_path / "wild", split="test")


def test_default_statistics_depend_on_the_channels(tmp_path):
    add(tmp_path / "a.png")
    assert FolderData(tmp_path).mean == (0.485, 0.456, 0.406)
    gray = FolderData(tmp_path, channels=1)
    assert (gray.mean, gray.std) == (pytest.approx((0.449,)), pytest.approx((0.226,)))
    assert FolderData(tmp_path, mean=(0.1, 0.2, 0.3)).mean == (0.1, 0.2, 0.3)
    for bad, message in (
        ({"channels": 2}, "channels must be 3"),
        ({"channels": 1, "mean": (0.5,) * 3}, "one value for each of 1 channel"),
        ({"on_error": "ignore"}, "got 'ignore'"),
    ):
        with pytest.raises(ValueError, match=message):
            FolderData(tmp_path, **bad)


def test_wrong_folder_raises_an_error_with_its_path(tmp_path):
    (tmp_path / "empty" / "er").mkdir(parents=True)
    (tmp_path / "file.png").write_bytes(b"")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "back").symlink_to(tmp_path / "loop", target_is_directory=True)
    for name, message in {
        "empty": r"no images in this folder or its subfolders \(expected \*\.png",
        "file.png": "is a file, not a folder",
        "absent": "does not exist",
        "loop": "a link to a folder above it",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            image_folder(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def write_damaged(tmp_path, kind):
    path = add(tmp_path / "bad.png", RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8))
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "bomb":  # a header of 60,000 x 60,000 pixels
        header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + content[24:29]
        path.write_bytes(content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])
    elif kind == "other format":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    else:
        path.write_bytes(b"" if kind == "empty" else b"no image at all")
    return path


@pytest.mark.parametrize("kind", ["truncated", "bomb", "other format", "empty", "text"])
def test_unreadable_image_raises_an_error_with_its_path(tmp_path, kind):
    path = write_damaged(tmp_path, kind)
    with pytest.raises(DataError, match=r"data\.on_error=skip") as caught:
        FolderData(tmp_path).read(0)
    assert str(path) in str(caught.value) and not isinstance(caught.value, SkipImage)
    with pytest.raises(SkipImage) as skipped:
        FolderData(tmp_path, on_error="skip").read(0)
    assert skipped.value.path == str(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_file_names_that_are_not_utf8_are_supported(tmp_path):
    path = add(tmp_path / "a.png")
    os.rename(path, os.fsencode(tmp_path) + b"/\xff\xfe.png")
    np.testing.assert_array_equal(FolderData(tmp_path).read(0).permute(1, 2, 0).numpy(), COLOR)


def test_a_warning_is_shown_once_although_every_split_looks_at_the_files(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"):
        add(tmp_path / name)
    (tmp_path / "cat/note.txt").write_text("not an image")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for split in ("train", "test", "bank"):
            image_folder(tmp_path, hold_out=0, split=split)
            warnings.filterwarnings("ignore", category=ImportWarning)  # resets Python's record of shown warnings
    assert [str(one.message).count("left out 1 .txt") for one in shown] == [1]


@pytest.mark.parametrize("used", ["cat", "cat/raw", "val/cat", "*.tif", "*.txt", "note.txt", "5.png", "new", "empty"])
def test_an_excluded_pattern_that_leaves_out_nothing_is_reported(tmp_path, used):
    for name in ("train/cat/1.png", "train/cat/raw/2.png", "val/cat/3.png", "train/dog/4.tif", "val/dog/5.png"):
        add(tmp_path / name)
    add(tmp_path / "train/dog/6.png")
    (tmp_path / "train/empty").mkdir()
    (tmp_path / "train/dog/note.txt").write_text("not an image")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        image_folder(tmp_path, exclude=(used, "empty", "cats", "cat/4.tif"))
    unused = [str(one.message).partition(" in ")[0] for one in shown if "data.exclude" in str(one.message)]
    patterns = [*(["new"] if used == "new" else []), "cats", "cat/4.tif"]
    assert unused == [f"data.exclude: {name!r} leaves out nothing" for name in patterns]


def test_given_test_and_bank_roots_have_class_folders_whatever_the_layout(tmp_path):
    for name in ("all/1.png", "test/cat/2.png", "test/dog/3.png", "bank/cat/4.png", "bank/dog/5.png"):
        add(tmp_path / name)
    roots = {"test_root": tmp_path / "test", "bank_root": tmp_path / "bank", "layout": "flat"}
    assert image_folder(tmp_path / "all", **roots).labels is None
    for split in ("test", "bank"):
        assert image_folder(tmp_path / "all", **roots, split=split).labels.tolist() == [0, 1]


def test_absolute_patterns_leave_out_only_what_they_name(tmp_path):
    inside = tmp_path / "root" / str(tmp_path).strip("/") / "test"
    add(tmp_path / "test" / "cat" / "1.png")
    add(inside / "2.png")
    assert len(image_folder(tmp_path / "root", test_root=tmp_path / "test")) == 1
    with pytest.raises(DataError, match="no images"):
        FolderData(tmp_path / "root", exclude=[str(inside)])


@pytest.mark.parametrize("inside", [".DS_Store", "deep/.DS_Store"])
def test_a_class_folder_with_hidden_files_alone_is_refused(tmp_path, inside):
    for name in ("cat/1.png", "dog/2.png"):
        add(tmp_path / name)
    (tmp_path / "empty" / inside).parent.mkdir(parents=True)
    (tmp_path / "empty" / inside).write_bytes(b"")
    with pytest.raises(DataError, match=r"empty is a class without images that can be read \(no files\)"):
        FolderData(tmp_path)


def test_key_of_an_image_stays_if_all_roots_move(tmp_path):
    for name in ("p/x/0.png", "q/x/0.png", "q/x/1.png"):
        add(tmp_path / name)
    before = FolderData([tmp_path / "p", tmp_path / "q"], layout="flat")
    keys = [before.key(index) for index in range(3)]
    assert len(set(keys)) == 3
    shutil.move(tmp_path / "p", tmp_path / "moved")
    shutil.move(tmp_path / "q", tmp_path / "moved too")
    after = FolderData([tmp_path / "moved", tmp_path / "moved too"], layout="flat")
    assert [after.key(index) for index in range(3)] == keys
