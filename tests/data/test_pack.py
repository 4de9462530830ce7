"""pack and pack_folder: the files that they write."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import ArrayData, FolderData, arrays
from ssl_lib.data.pack import Packed, pack, pack_folder
from ssl_lib.errors import DataError
from tests.data.pack_samples import SIZE, contents, resized_by_pillow

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_reads_the_files_of_pack(folder, tmp_path, workers, channels):
    source = FolderData(folder, channels)
    destination = tmp_path / "new" / "folder"
    packed = pack(source, destination, SIZE, workers=workers)
    images, labels, classes = (destination / name for name in ("images.npy", "labels.npy", "classes.json"))
    assert packed == Packed(images, labels, classes, count=11, written=11, skipped=())
    assert sorted(contents(destination)) == ["classes.json", "images.npy", "labels.npy", "pack.json"]
    assert np.load(images, allow_pickle=False).shape == (11, SIZE, SIZE, channels)
    data = arrays(images, labels=labels)
    assert data.memory_mapped and torch.equal(data.labels, source.labels)
    assert tuple(json.loads(classes.read_text())) == source.class_names
    for index in range(11):
        expected = resized_by_pillow(source, index, "RGB" if channels == 3 else "L").reshape(SIZE, SIZE, channels)
        np.testing.assert_allclose(data.read(index).permute(1, 2, 0).numpy(), expected, atol=1)  # the rounding differs


def test_number_of_workers_does_not_change_the_files(many, tmp_path):
    packs = [pack(FolderData(many), tmp_path / str(workers), SIZE, workers=workers) for workers in (0, 1, 2)]
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")
    assert [packed.count for packed in packs] == [150] * 3


def test_images_of_the_target_size_are_unchanged(tmp_path):
    pixels = RNG.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    packed = pack(ArrayData(pixels), tmp_path / "out", SIZE, workers=0)
    assert packed.labels is None and packed.classes is None
    np.testing.assert_array_equal(np.load(packed.images), pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_raise_an_error_or_are_skipped(many, tmp_path, workers):
    data = FolderData(many)
    bad = [0, 40, *range(64, 96), 149]  # includes a whole batch
    for index in bad:
        with open(data.path(index), "wb") as file:
            file.write(b"torn")
    destination = tmp_path / "out"
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        pack(data, destination, SIZE, workers=workers)
    assert data.path(0) in str(caught.value)
    packed = pack(FolderData(many, on_error="skip"), destination, SIZE, workers=workers)
    assert (packed.count, packed.written) == (115, 115)
    assert packed.skipped == tuple(data.path(index) for index in bad)
    kept = [index for index in range(150) if index not in bad]
    written = arrays(packed.images, labels=packed.labels)
    assert torch.equal(written.labels, data.labels[kept])
    for row, index in enumerate(kept):
        np.testing.assert_array_equal(written.read(row).permute(1, 2, 0).numpy(), resized_by_pillow(data, index))
    assert pack(data, destination, SIZE).skipped == packed.skipped  # the pack is complete, so nothing is read


def test_pack_folder_packs_every_split(folder, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "root" / split).mkdir(parents=True)
    for name in ("class0", "class1", "class2"):
        (folder / name).rename(tmp_path / "root" / "train" / name)
    (tmp_path / "root" / "val" / "class1").mkdir()
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "root/val/class1/1.png")
    packed = pack_folder(tmp_path / "root", tmp_path / "out", SIZE, workers=0)
    assert {split: result.count for split, result in packed.items()} == {"train": 11, "test": 1}
    train, test = tmp_path / "out" / "train", tmp_path / "out" / "test"
    assert (train / "classes.json").read_bytes() == (test / "classes.json").read_bytes()
    paths = {"labels": train / "labels.npy", "test_path": test / "images.npy", "test_labels": test / "labels.npy"}
    data = arrays(train / "images.npy", **paths, split="test")
    assert data.labels.tolist() == [1]
    assert len(arrays(train / "images.npy", **paths)) == 11
    data = arrays(tmp_path / "out", split="test")
    assert [data.class_names[label] for label in data.labels] == ["class1"]


def test_pack_folder_without_splits_or_labels(tmp_path):
    (tmp_path / "wild").mkdir()
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "wild" / "1.png")
    (packed,) = pack_folder(tmp_path / "wild", tmp_path / "out", SIZE, workers=0).values()
    assert packed.labels is None and arrays(packed.images).labels is None
    assert sorted(contents(tmp_path / "out" / "train")) == ["images.npy", "pack.json"]


@pytest.mark.parametrize("workers", [0, 2])
def test_float_images_are_refused(tmp_path, workers):
    class Floats(FolderData):
        def read(self, index):
            return super().read(index) / 255

    Image.new("RGB", (SIZE, SIZE), "white").save(tmp_path / "a.png")
    bright = ArrayData(np.ones((3, SIZE, SIZE), np.float32))
    for number, data in enumerate((bright, Floats(tmp_path))):
        with pytest.raises(DataError, match="pack writes 8-bit images"):
            pack(data, tmp_path / f"out{number}", SIZE, workers=workers)
