from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.data import FolderData, arrays, pack
from ssl_lib.data.base import DataWarning
from ssl_lib.data.tiles import Tiles
from ssl_lib.errors import DataError
from tests.data.pack_samples import contents

SLIDE = np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)
SMALL = np.random.default_rng(1).integers(0, 256, (20, 25, 3), dtype=np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore:.*tiles of")
CORNERS = [(3, 2), (3, 34), (3, 66), (35, 2), (35, 34), (35, 66)]  # of the 32-pixel tiles of SLIDE, centered


@pytest.fixture
def folder(tmp_path):
    for name, pixels in (("a/slide.png", SLIDE), ("b/small.png", SMALL)):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    return tmp_path / "images"


def cut(top, left):
    return SLIDE[top : top + 32, left : left + 32]


def test_tiles_are_slices_with_the_label_of_their_image(folder):
    tiles = Tiles(FolderData(folder), 32)
    assert len(tiles) == 7 and tiles.labels.tolist() == [0] * 6 + [1] and tiles.class_names == ("a", "b")
    for index, corner in enumerate(CORNERS):
        np.testing.assert_array_equal(tiles.read(index).permute(1, 2, 0).numpy(), cut(*corner))
        assert tiles.name(index) == f"a/slide.png@{corner[0]},{corner[1]}"
    np.testing.assert_array_equal(tiles.read(6).permute(1, 2, 0).numpy(), SMALL)


def test_turned_image_is_cut_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to display, rotate by 90 degrees clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(SLIDE))).save(tmp_path / "a.png", exif=exif)
    tiles = Tiles(FolderData(tmp_path), 32)
    assert len(tiles) == 6
    np.testing.assert_array_equal(tiles.read(5).permute(1, 2, 0).numpy(), cut(*CORNERS[5]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_tiles_of_turned_images_are_slices_of_the_upright_image(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(SLIDE).save(tmp_path / f"a.{suffix}", exif=exif)
    data = FolderData(tmp_path)
    upright, tiles = data.read(0), Tiles(data, 32)
    assert len(tiles) == 6 and upright.shape[1:] == ((101, 70) if orientation >= 5 else (70, 101))
    for index in range(6):
        top, left = map(int, tiles.name(index).partition("@")[2].split(","))
        assert torch.equal(tiles.read(index), upright[:, top : top + 32, left : left + 32])
        assert tiles.read(index).shape == (3, 32, 32)


def test_pages_of_different_sizes(tmp_path):
    pages = [Image.fromarray(pixels) for pixels in (SMALL, SLIDE)]
    pages[0].save(tmp_path / "a#7.tif", save_all=True, append_images=pages[1:])
    tiles = Tiles(FolderData(tmp_path, pages="all"), 32)
    assert [tiles.name(index) for index in (0, 1)] == ["a#7.tif@0,0", "a#7.tif#1@3,2"] and len(tiles) == 7
    for index, corner in enumerate(CORNERS):
        np.testing.assert_array_equal(tiles.read(index + 1).permute(1, 2, 0).numpy(), cut(*corner))


def test_a_short_side_is_not_cut(tmp_path):
    Image.fromarray(SLIDE[:9]).save(tmp_path / "a.png")
    tiles = Tiles(FolderData(tmp_path), 32)
    assert [tiles.name(index) for index in range(len(tiles))] == ["a.png@0,2", "a.png@0,34", "a.png@0,66"]
    np.testing.assert_array_equal(tiles.read(1).permute(1, 2, 0).numpy(), SLIDE[:9, 34:66])


@pytest.mark.parametrize("size", [16, 20, 32, 64])
def test_pixels_in_no_tile_are_reported(folder, size):
    """Counts the pixels by painting the tiles."""
    Image.fromarray(SLIDE[:64, :64]).save(folder / "b" / "whole.png")
    with pytest.warns(DataWarning, match=f"tiles of {size} x {size} pixels") as found:
        tiles = Tiles(FolderData(folder), size)
    painted = {"a/slide.png": np.zeros((70, 101)), "b/small.png": np.zeros((20, 25)), "b/whole.png": np.zeros((64, 64))}
    for index in range(len(tiles)):
        name, _, place = tiles.name(index).partition("@")
        top, left = map(int, place.split(","))
        height, width = tiles.read(index).shape[1:]
        assert (painted[name][top : top + height, left : left + width] == 0).all()
        painted[name][top : top + height, left : left + width] = 1
    left_out = [(image == 0).sum() for image in painted.values()]
    percent = 100 * sum(left_out) / sum(image.size for image in painted.values())
    assert len(found) == 1 and (
        f"leave out {percent:.2g} % of the pixels, at the borders of {np.count_nonzero(left_out)} of 3 images, such as "
        "a/slide.png (101 x 70), where they do not fill a tile" in str(found[0].message)
    )


def test_images_shorter_than_a_tile_are_reported_and_fitting_ones_are_not(tmp_path):
    for name, shape in (("a", (9, 64)), ("b", (64, 32))):
        Image.new("L", shape[::-1]).save(tmp_path / f"{name}.png")
    with pytest.warns(DataWarning, match="pixels are shorter in 1 image, where pack keeps the center of each"):
        Tiles(FolderData(tmp_path), 32)
    (tmp_path / "a.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Tiles(FolderData(tmp_path), 32)) == 2


def test_size_of_tiles_is_checked(folder, tmp_path, capsys):
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        Tiles(FolderData(folder), 0)
    assert main(["pack", str(folder), str(tmp_path / "out"), "--tile", "--size", "0"]) == 2
    assert "size must be at least 1" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_interrupted_pack_of_tiles_resumes(tmp_path, capsys, monkeypatch):
    """200 tiles in four images; the first call is interrupted in the third."""
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (41, 82, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    command = ["pack", str(tmp_path / "images"), str(tmp_path / "out"), "--tile", "--size", "8", "--workers", "0"]
    read = FolderData.read

    def interrupted(self, index):
        if index == 2:
            raise KeyboardInterrupt
        return read(self, index)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(FolderData, "read", interrupted)
        main(command)
    assert (tmp_path / "out" / "train" / "images.npy.partial").exists()
    assert main(command) == 0 and "200 images, 100 of them now" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "whole"), *command[3:]]) == 0
    assert contents(tmp_path / "out" / "train") == contents(tmp_path / "whole" / "train")
    tiles, packed = Tiles(FolderData(tmp_path / "images"), 8), arrays(tmp_path / "out")
    assert all(torch.equal(packed.read(index), tiles.read(index)) for index in range(200))
    assert main(command) == 0 and "200 images, 0 of them now" in capsys.readouterr().err


def test_damaged_image_is_decoded_once_and_all_its_tiles_are_left_out(folder, tmp_path):
    reads = []

    class Counted(FolderData):
        def read(self, index):
            reads.append(index)
            return super().read(index)

    (folder / "a" / "slide.png").unlink()
    path = folder / "a" / "slide.bmp"
    Image.fromarray(SLIDE).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    packed = pack(Tiles(Counted(folder, on_error="skip"), 32), tmp_path / "out", 32, workers=0)
    assert packed.count == 1 and packed.skipped == (str(path),) * 6 and reads == [0, 1]


def test_deep_images_are_read_whole_but_not_packed(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(values).save(tmp_path / "a.png")
    tiles = Tiles(FolderData(tmp_path, 1, depth=16), 4)
    np.testing.assert_allclose(tiles.read(3)[0].numpy() * 65535, values[4:, 4:], atol=0.01)
    with pytest.raises(DataError, match="pack writes 8-bit images"):
        pack(tiles, tmp_path / "out", 4, workers=0)


def test_pack_with_tiles_writes_every_tile(folder, tmp_path):
    command = ["pack", str(folder), str(tmp_path / "out"), "--tile", "--size", "32", "--workers", "2"]
    assert main(command) == 0
    data = arrays(tmp_path / "out")
    assert len(data) == 7 and data.labels.tolist() == [0] * 6 + [1] and data.class_names == ("a", "b")
    for index, corner in enumerate(CORNERS):
        np.testing.assert_array_equal(data.read(index).permute(1, 2, 0).numpy(), cut(*corner))
    assert main([*command[:3], "--size", "32"]) == 2  # without tiles it is another pack


def test_unreadable_image_is_reported_or_skipped(folder, tmp_path):
    (folder / "a" / "bad.png").write_bytes(b"no image")
    packed = pack(Tiles(FolderData(folder, on_error="skip"), 32), tmp_path / "out", 32, workers=0)
    assert packed.count == 7 and packed.skipped == (str(folder / "a" / "bad.png"),)
    with pytest.raises(DataError, match=r"bad\.png cannot be read"):
        Tiles(FolderData(folder), 32)


def test_images_beyond_the_limit_of_pixels_are_cut(tmp_path):
    Image.new("L", (1000, 900)).save(tmp_path / "large.png")
    tiles = Tiles(FolderData(tmp_path, channels=1, max_pixels=900_000), 450)
    assert len(tiles) == 4 and torch.equal(tiles.read(3), torch.zeros(1, 450, 450, dtype=torch.uint8))
