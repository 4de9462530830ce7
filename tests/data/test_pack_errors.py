"""Error messages of pack."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lib.data import ArrayData, FolderData
from ssl_lib.data.pack import pack
from ssl_lib.errors import DataError
from tests.data.image_samples import numbered
from tests.data.pack_samples import SIZE, contents

RNG = np.random.default_rng(0)


def test_no_readable_image_raises_an_error(folder, tmp_path):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"none of the 11 images can be read; the first is .*00\.png"):
        pack(FolderData(folder, on_error="skip", layout="flat"), tmp_path / "out", SIZE, workers=0)


def test_destination_with_a_pack_from_another_source_raises_an_error(folder, tmp_path):
    destination = tmp_path / "out"
    pack(FolderData(folder), destination, SIZE, workers=0)
    before = contents(destination)
    image = folder / "class1" / "04.png"

    def assert_error(data, message, size=SIZE):
        with pytest.raises(DataError, match=f"another source .*{message}"):
            pack(data, destination, size, workers=0)

    assert_error(FolderData(folder), "size: 9 there, 10 here", SIZE + 1)
    assert_error(FolderData(folder, channels=1), "channels: 3 there, 1 here")
    assert_error(FolderData(folder / "class0"), "folder: ")
    assert_error(numbered(), "type: None there, ArrayData here")
    image.rename(image.with_name("05.png"))
    assert_error(FolderData(folder), "names: ")
    image.with_name("05.png").unlink()
    assert_error(FolderData(folder), "images: 11 there, 10 here")
    assert contents(destination) == before


def test_different_labels_are_another_source(tmp_path):
    pixels = RNG.integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8)
    pack(ArrayData(pixels, np.array([0, 1, 0, 1]), ("a", "b")), tmp_path / "out", SIZE, workers=0)
    for labels, names in (([0, 1, 1, 1], ("a", "b")), ([0, 1, 0, 1], ("a", "c"))):
        with pytest.raises(DataError, match="labels: "):
            pack(ArrayData(pixels, np.array(labels), names), tmp_path / "out", SIZE, workers=0)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "classes.json"])
def test_files_not_written_by_pack_are_unchanged(folder, tmp_path, name):
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / name).write_text("mine")
    with pytest.raises(DataError, match=f"contains {name} not written by pack"):
        pack(FolderData(folder), destination, SIZE)
    assert contents(destination) == {name: b"mine"}


@pytest.mark.parametrize("state", ["", "[]", '{"source": {}}', '{"source": 1, "done": "x", "skipped": []}'])
def test_damaged_state_raises_an_error_with_the_fix(folder, tmp_path, state):
    (tmp_path / "pack.json").write_text(state)
    with pytest.raises(DataError, match=r"pack\.json cannot be read .* pack again"):
        pack(FolderData(folder), tmp_path, SIZE)


def test_disk_that_is_too_small_raises_an_error_before_the_start(folder, tmp_path):
    with pytest.raises(DataError, match=r"out: the images need \d+\.\d GB and the disk has \d+\.\d GB left"):
        pack(FolderData(folder), tmp_path / "out", 10**7, workers=0)


def test_wrong_destination_or_size_raises_an_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot be written"):
        pack(FolderData(folder), tmp_path / "file", SIZE)
    with pytest.raises(ValueError, match="at least 1 pixel and workers at least 0, got 0"):
        pack(FolderData(folder), tmp_path / "out", 0)
