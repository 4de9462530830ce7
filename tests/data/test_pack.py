from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from ssl_lib.data import ArrayData, FolderData, arrays, rows
from ssl_lib.data.pack import Packed, pack, pack_folder
from ssl_lib.errors import DataError
from tests.conftest import full_disk
from tests.data.image_samples import numbered

SIZE = 9
RNG = np.random.default_rng(0)


class Stops(FolderData):
    """Ends with an error of its own at one image, as an interrupt would."""

    at = 7

    def read(self, index):
        if index == self.at:
            raise KeyboardInterrupt
        return super().read(index)


@pytest.fixture
def many(tmp_path):
    """150 images in three classes: several batches."""
    for index in range(150):
        folder = tmp_path / "many" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (SIZE, SIZE + index % 5, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "many"


def by_pillow(data, index, mode="RGB"):
    shape = Compose([Resize(SIZE, InterpolationMode.BICUBIC), CenterCrop(SIZE)])
    with Image.open(data.path(index)) as image:
        return np.asarray(shape(image.convert(mode))).astype(int)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_reads_what_pack_wrote(folder, tmp_path, workers, channels):
    source = FolderData(folder, channels)
    destination = tmp_path / "made" / "here"
    packed = pack(source, destination, SIZE, workers=workers)
    images, labels, classes = (destination / name for name in ("images.npy", "labels.npy", "classes.json"))
    assert packed == Packed(images, labels, classes, count=11, written=11, skipped=())
    assert sorted(contents(destination)) == ["classes.json", "images.npy", "labels.npy", "pack.json"]
    assert np.load(images, allow_pickle=False).shape == (11, SIZE, SIZE, channels)
    data = arrays(images, labels=labels)
    assert data.memory_mapped and torch.equal(data.labels, source.labels)
    assert tuple(json.loads(classes.read_text())) == source.class_names
    for index in range(11):
        expected = by_pillow(source, index, "RGB" if channels == 3 else "L").reshape(SIZE, SIZE, channels)
        np.testing.assert_allclose(data.read(index).permute(1, 2, 0).numpy(), expected, atol=1)  # their last rounding


def test_the_number_of_workers_changes_nothing(many, tmp_path):
    packs = [pack(FolderData(many), tmp_path / str(workers), SIZE, workers=workers) for workers in (0, 1, 2)]
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")
    assert [packed.count for packed in packs] == [150] * 3


def test_images_of_that_size_stay_as_they_are(tmp_path):
    pixels = RNG.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    packed = pack(ArrayData(pixels), tmp_path / "out", SIZE, workers=0)
    assert packed.labels is None and packed.classes is None
    np.testing.assert_array_equal(np.load(packed.images), pixels)


def test_an_interrupted_pack_goes_on_where_it_stopped(many, tmp_path):
    destination = tmp_path / "out"
    whole = pack(FolderData(many), tmp_path / "whole", SIZE, workers=0)
    data = Stops(many)
    for data.at in (20, 70, 149):
        with pytest.raises(KeyboardInterrupt):
            pack(data, destination, SIZE, workers=0)
        assert sorted(contents(destination)) == ["images.npy.partial", "pack.json"]
        assert json.loads((destination / "pack.json").read_text())["done"] == data.at // 32 * 32
    packed = pack(FolderData(many), destination, SIZE, workers=0)
    assert (packed.count, packed.written) == (150, 150 - 128)
    assert contents(destination) == contents(tmp_path / "whole")
    before = (packed.images.stat().st_mtime_ns, contents(destination))
    again = pack(FolderData(many), destination, SIZE, workers=0)
    assert (again.count, again.written) == (whole.count, 0)
    assert (packed.images.stat().st_mtime_ns, contents(destination)) == before


def test_a_killed_pack_goes_on(many, tmp_path, monkeypatch):
    """What lies on the disk in the middle of a pack is what a kill leaves: here with half a batch more in the file."""
    monkeypatch.setattr(rows, "_SAVE_EVERY", 0.0)
    left = tmp_path / "left"

    class Copies(FolderData):
        def read(self, index):
            if index == 100:
                shutil.copytree(tmp_path / "whole", left)
            return super().read(index)

    pack(Copies(many), tmp_path / "whole", SIZE, workers=0)
    assert json.loads((left / "pack.json").read_text())["done"] == 96
    with (left / "images.npy.partial").open("ab") as file:
        file.write(b"torn" * 1000)
    assert pack(FolderData(many), left, SIZE, workers=0).written == 150 - 96
    assert contents(left) == contents(tmp_path / "whole")


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_errors_or_left_out(many, tmp_path, workers):
    data = FolderData(many)
    bad = [0, 40, *range(64, 96), 149]  # one whole batch among them
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
        np.testing.assert_array_equal(written.read(row).permute(1, 2, 0).numpy(), by_pillow(data, index))
    assert pack(data, destination, SIZE).skipped == packed.skipped  # complete: nothing is read


def test_skipped_images_are_remembered_over_an_interrupt(many, tmp_path):
    data = Stops(many, on_error="skip")
    for index in (3, 90):
        with open(data.path(index), "wb") as file:
            file.write(b"torn")
    data.at = 70
    with pytest.raises(KeyboardInterrupt):
        pack(data, tmp_path / "out", SIZE, workers=0)
    data.at = -1
    packed = pack(data, tmp_path / "out", SIZE, workers=0)
    assert (packed.count, packed.written) == (148, 148 - 63)
    assert packed.skipped == (data.path(3), data.path(90))
    assert len(np.load(packed.labels)) == len(np.load(packed.images)) == 148


def test_nothing_readable(folder, tmp_path):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"none of the 11 images can be read; the first is .*00\.png"):
        pack(FolderData(folder, on_error="skip"), tmp_path / "out", SIZE, workers=0)


def test_a_destination_of_another_source_is_refused(folder, tmp_path):
    destination = tmp_path / "out"
    pack(FolderData(folder), destination, SIZE, workers=0)
    before = contents(destination)
    image = folder / "class1" / "04.png"

    def refused(data, message, size=SIZE):
        with pytest.raises(DataError, match=f"another source .*{message}"):
            pack(data, destination, size, workers=0)

    refused(FolderData(folder), "size: 9 there, 10 here", SIZE + 1)
    refused(FolderData(folder, channels=1), "channels: 3 there, 1 here")
    refused(FolderData(folder / "class0"), "folder: ")
    refused(numbered(), "type: None there, ArrayData here")
    image.rename(image.with_name("05.png"))
    refused(FolderData(folder), "names: ")
    image.with_name("05.png").unlink()
    refused(FolderData(folder), "images: 11 there, 10 here")
    assert contents(destination) == before


def test_labels_are_part_of_the_source(tmp_path):
    pixels = RNG.integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8)
    pack(ArrayData(pixels, np.array([0, 1, 0, 1]), ("a", "b")), tmp_path / "out", SIZE, workers=0)
    for labels, names in (([0, 1, 1, 1], ("a", "b")), ([0, 1, 0, 1], ("a", "c"))):
        with pytest.raises(DataError, match="labels: "):
            pack(ArrayData(pixels, np.array(labels), names), tmp_path / "out", SIZE, workers=0)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "classes.json"])
def test_files_that_pack_did_not_write_are_left_alone(folder, tmp_path, name):
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds {name} of another origin"):
        pack(FolderData(folder), destination, SIZE)
    assert contents(destination) == {name: b"mine"}


@pytest.mark.parametrize("state", ["", "[]", '{"source": {}}', '{"source": 1, "done": "x", "skipped": []}'])
def test_a_damaged_state_is_an_error_with_the_cure(folder, tmp_path, state):
    (tmp_path / "pack.json").write_text(state)
    with pytest.raises(DataError, match=r"pack\.json cannot be read .* pack again"):
        pack(FolderData(folder), tmp_path, SIZE)


def test_a_partial_file_that_is_too_short_is_an_error(many, tmp_path):
    data = Stops(many)
    data.at = 70
    with pytest.raises(KeyboardInterrupt):
        pack(data, tmp_path / "out", SIZE, workers=0)
    partial = tmp_path / "out" / "images.npy.partial"
    os.truncate(partial, 1000)
    with pytest.raises(DataError, match="shorter than"):
        pack(data, tmp_path / "out", SIZE, workers=0)
    partial.unlink()  # what is gone is made again
    assert pack(FolderData(many), tmp_path / "out", SIZE, workers=0).written == 150


def test_a_disk_that_is_too_small_is_known_before_the_start(folder, tmp_path):
    with pytest.raises(DataError, match=r"out: the images need \d+\.\d GB and the disk has \d+\.\d GB left"):
        pack(FolderData(folder), tmp_path / "out", 10**7, workers=0)


@pytest.mark.parametrize("room", [100, 20_000])
def test_a_disk_that_fills_up(many, tmp_path, room):
    destination = tmp_path / "out"
    with full_disk(room), pytest.raises(DataError, match=r"out: cannot be written \(File too large\); free space"):
        pack(FolderData(many), destination, SIZE, workers=0)
    assert not (destination / "images.npy").exists()
    pack(FolderData(many), destination, SIZE, workers=0)
    pack(FolderData(many), tmp_path / "whole", SIZE, workers=0)
    assert contents(destination) == contents(tmp_path / "whole")


def test_a_destination_that_is_a_file(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot be written"):
        pack(FolderData(folder), tmp_path / "file", SIZE)
    with pytest.raises(ValueError, match="at least 1 pixel and workers at least 0, got 0"):
        pack(FolderData(folder), tmp_path / "out", 0)


def test_every_split_of_a_folder(folder, tmp_path):
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
    assert arrays(train / "images.npy", **paths, split="test").labels.tolist() == [1]
    assert len(arrays(train / "images.npy", **paths)) == 11


def test_a_folder_without_splits_or_labels(tmp_path):
    (tmp_path / "wild").mkdir()
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "wild" / "1.png")
    (packed,) = pack_folder(tmp_path / "wild", tmp_path / "out", SIZE, workers=0).values()
    assert packed.labels is None and arrays(packed.images).labels is None
    assert sorted(contents(tmp_path / "out" / "train")) == ["images.npy", "pack.json"]
