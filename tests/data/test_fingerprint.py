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
from ssl_lib.data.fingerprint import fingerprint
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
