from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import ViewPipeline
from ssl_lib.data import ArrayData, FolderData, Loader
from ssl_lib.data import fingerprint as fingerprints
from ssl_lib.data.fingerprint import compare_files, file_list, fingerprint
from tests.conftest import small_views


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), name.encode()[0]).save(tmp_path / "images" / f"{name}.bmp")
    return tmp_path / "images"


def of(root, indices=None):
    data = FolderData(root)
    return fingerprint(data, torch.arange(len(data)) if indices is None else indices)


def changed(before, after):
    return [key for key in before if before[key] != after[key]]


def test_copied_or_moved_folder_has_the_same_fingerprint(folder, tmp_path):
    before = of(folder)
    assert before["images"] == 3
    shutil.copytree(folder, tmp_path / "copy")
    assert of(tmp_path / "copy") == before


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (lambda folder: (folder / "b.bmp").rename(folder / "b2.bmp"), ["names"]),
        (lambda folder: Image.new("RGB", (9, 8)).save(folder / "b.bmp"), ["sizes"]),
        (lambda folder: (folder / "b.bmp").unlink(), ["images", "names", "sizes"]),
        (lambda folder: shutil.copyfile(folder / "b.bmp", folder / "d.bmp"), ["images", "names", "sizes"]),
    ],
)
def test_changes_of_names_and_sizes_are_detected(folder, change, keys):
    before = of(folder)
    change(folder)
    assert changed(before, of(folder)) == keys


def test_subset_in_use_counts(folder):
    assert of(folder, torch.tensor([0, 2])) != of(folder, torch.tensor([0, 1]))


def test_arrays_are_described_by_their_shape():
    few, more, wide = (ArrayData(np.zeros(shape, np.uint8)) for shape in ((3, 4, 4), (4, 4, 4), (3, 4, 5)))
    prints = [fingerprint(data, torch.arange(3)) for data in (few, more, wide)]
    assert changed(prints[0], prints[1]) == ["names"] and changed(prints[0], prints[2]) == ["sizes"]


def test_fingerprint_is_json_and_accepts_any_file_name(folder):
    os.rename(os.fsencode(folder / "b.bmp"), os.fsencode(folder) + b"/\xff\xfe.bmp")
    found = of(folder)
    assert json.loads(json.dumps(found)) == found and found["images"] == 3
    assert of(folder, torch.arange(0))["images"] == 0


def test_names_do_not_run_into_each_other(tmp_path):
    prints = []
    for part, names in enumerate((("a", "bc"), ("ab", "c"))):
        for name in names:
            (tmp_path / str(part) / name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / str(part) / name / "1.bmp")
        prints.append(of(tmp_path / str(part)))
    assert changed(*prints) == ["names"]


def test_sizes_of_a_sample_of_many_files(folder, monkeypatch):
    """All names count, but only every second size."""
    monkeypatch.setattr(fingerprints, "_SIZES", 2)
    before = of(folder)
    Image.new("RGB", (9, 8)).save(folder / "b.bmp")
    assert changed(before, of(folder)) == []
    Image.new("RGB", (9, 8)).save(folder / "c.bmp")
    assert changed(before, of(folder)) == ["sizes"]


def test_loader_describes_the_images_in_use(folder):
    data = FolderData(folder)
    pipeline = ViewPipeline(small_views("simclr"), data.mean, data.std)
    indices = torch.tensor([0, 2])
    assert Loader(data, pipeline, 2, workers=0, indices=indices).fingerprint() == fingerprint(data, indices)


def listing(root):
    data = FolderData(root)
    return file_list(data, torch.arange(len(data)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "b.bmp").rename(folder / "b2.bmp"), "1 added: b2.bmp; 1 removed: b.bmp"),
        (lambda folder: Image.new("RGB", (9, 8)).save(folder / "b.bmp"), "1 of another size: b.bmp"),
        (lambda folder: (folder / "b.bmp").unlink(), "1 removed: b.bmp"),
        (
            lambda folder: [shutil.copyfile(folder / "b.bmp", folder / f"{name}.bmp") for name in "hgfe"],
            "4 added: e.bmp, f.bmp, g.bmp, ...",
        ),
        (lambda folder: None, ""),
    ],
)
def test_changed_files_are_named(folder, change, message):
    before = listing(folder)
    change(folder)
    assert compare_files(before, listing(folder)) == message


def test_list_of_files_has_any_name_and_order(folder, monkeypatch):
    os.rename(os.fsencode(folder / "b.bmp"), os.fsencode(folder) + b"/\xff 1.bmp")
    data, orders = FolderData(folder), (torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]))
    lists = [file_list(data, order) for order in orders]
    assert compare_files(*lists) == "the same images in another order" and compare_files(lists[0], lists[0]) == ""
    assert compare_files(file_list(data, orders[0][:2]), lists[0]) == f"1 added: {data.name(2)}"
    assert json.loads(json.dumps(lists[0])) == lists[0]
    monkeypatch.setattr(fingerprints, "_SIZES", 2)  # the sizes of a sample of the images
    assert compare_files(lists[0], file_list(data, orders[0])) == ""
    monkeypatch.setattr(fingerprints, "_NAMES", 2)
    assert file_list(data, orders[0]) is None
    assert file_list(ArrayData(np.zeros((3, 4, 4), np.uint8)), orders[0]) is None
