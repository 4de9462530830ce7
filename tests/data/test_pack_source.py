"""How the files of packed images were read: stored by `pack`, and used for other files by `Preprocessing`."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from ssl_lib.cli.image_source import open_images
from ssl_lib.data import FolderData, ShardData, arrays, pack, pack_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.data.resumable import describe_source
from ssl_lib.data.tiles import Tiles
from ssl_lib.errors import DataError
from tests.data.shard_samples import encoded, write

PIXELS = np.random.default_rng(0).integers(0, 4096, (5, 16, 16, 6), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    for index, pixels in enumerate(PIXELS):
        np.save(tmp_path / "files" / f"{index}.npy", pixels)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "reading"),
    [
        ({"bands": "all", "range": (0, 4095)}, ((0, 4095), "all")),
        ({"bands": (5, 0), "range": "percentile"}, ("percentile", (5, 0))),
        ({"bands": (2, 1, 0)}, ("auto", (2, 1, 0))),
    ],
)
@pytest.mark.filterwarnings("ignore:.*nearly black")
def test_packed_files_and_files_give_the_same_input(folder, settings, reading):
    pack_folder(folder / "files", folder / "pack", 16, workers=0, **settings)
    for path in (folder / "pack", folder / "pack" / "train", folder / "pack" / "train" / "images.npy"):
        data = arrays(path)
        preprocessing = Preprocessing.of(data)
        assert (preprocessing.range, preprocessing.bands) == reading and preprocessing.depth == 8
        assert Preprocessing(**json.loads(json.dumps(preprocessing.plain()))) == preprocessing
    files = [str(folder / "files" / f"{index}.npy") for index in range(5)]
    packed = preprocessing(torch.stack([data.read(index) for index in range(5)]))
    assert torch.equal(preprocessing(files), packed) and packed.std() > 0.5


def test_tiles_keep_the_settings_of_their_files(folder):
    data = FolderData(folder / "files", bands="all", range=(0, 4095))
    pack(Tiles(data, 8), folder / "pack", 8, workers=0)
    preprocessing = Preprocessing.of(arrays(folder / "pack"))
    assert preprocessing.channels == 6 and preprocessing.reading == {"range": (0, 4095), "depth": 8, "bands": "all"}


def test_packed_shards_keep_the_settings_of_their_files(tmp_path):
    image = encoded(np.full((8, 8), 3000, np.uint16))
    write(tmp_path / "a.tar", [("0.png", image), ("1.png", image)])
    data = ShardData(str(tmp_path / "a.tar"), 1, range=(0, 4095))
    pack(data, tmp_path / "pack", 8, workers=0)
    preprocessing = Preprocessing.of(arrays(tmp_path / "pack"))
    assert preprocessing.range == (0, 4095) and int(arrays(tmp_path / "pack").read(0)[0, 0, 0]) == 187
    with pytest.warns(DataWarning, match="nearly black"):
        dark = ShardData(str(tmp_path / "a.tar"), 1)
    assert describe_source(dark) != describe_source(data)


def test_arrays_that_are_not_packed_have_no_source(folder):
    np.save(folder / "images.npy", PIXELS[..., :3].astype(np.uint8))
    assert arrays(folder / "images.npy").decoder is None
    assert Preprocessing.of(arrays(folder / "images.npy")).reads_pictures


@pytest.mark.parametrize("content", ["", "{}", '{"source": {"channels": 6, "bands": "most"}}'])
def test_damaged_source_is_refused(folder, content):
    pack_folder(folder / "files", folder / "pack", 16, workers=0, bands="all", range=(0, 4095))
    (folder / "pack" / "train" / "pack.json").write_text(content)
    with pytest.raises(DataError, match=r"pack\.json is damaged .* how the images in images\.npy were read: pack them"):
        arrays(folder / "pack")


def test_packs_with_other_settings_are_reported(folder):
    for name, limits in (("a", (0, 4095)), ("b", (0, 4000)), ("c", (0, 4095))):
        pack_folder(folder / "files", folder / name, 16, workers=0, bands="all", range=limits)
        np.save(folder / name / "train" / "labels.npy", np.arange(5))
    arrays_of = {name: folder / name / "train" / "images.npy" for name in "abc"}
    labels = {"labels": folder / "a" / "train" / "labels.npy", "test_labels": folder / "a" / "train" / "labels.npy"}
    with pytest.warns(DataWarning, match=r"b/train/images\.npy was packed with another range, depth or bands than"):
        arrays(arrays_of["a"], test_path=arrays_of["b"], split="test", **labels)
    like = Preprocessing.of(arrays(folder / "a"))
    with pytest.warns(DataWarning, match=r"b was packed with another .*\(data\.range=\[0, 4095\], data\.depth=8, "):
        open_images(str(folder / "b"), like)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays(arrays_of["a"], test_path=arrays_of["c"], split="test", **labels)
        open_images(str(folder / "c"), like)
