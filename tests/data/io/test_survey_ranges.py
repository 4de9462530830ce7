"""Ranges that a sample shows to be wrong: nearly black or white images, whatever the file, and few among many."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import FolderData
from ssl_lib.data.base import DataWarning
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.sample import sample_of_names
from ssl_lib.errors import DataError

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (64, 64), dtype=np.uint16)
EIGHT = RNG.integers(0, 256, (64, 64), dtype=np.uint8)


def png(pixels, color, transparent=None):
    """A PNG of 16 bits with the given color type, which Pillow cannot write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0))
    clear = b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + header + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("color", "bands"), [(4, 2), (6, 4)], ids=["gray", "RGB"])
@pytest.mark.parametrize("ending", ["png", "apng"])
def test_alpha_does_not_hide_dark_values(tmp_path, color, bands, ending):
    pixels = np.dstack([TWELVE] * (bands - 1) + [np.full_like(TWELVE, 65535)])
    (tmp_path / f"a.{ending}").write_bytes(png(pixels, color))
    with pytest.warns(DataWarning, match=r"reach only 4,\d+ of 65,535.*data\.range=\[0,4095\]"):
        FolderData(tmp_path)


def test_defective_pixels_do_not_hide_dark_values(tmp_path):
    hot = TWELVE.copy()
    hot[3, 4] = 65535
    Image.fromarray(hot).save(tmp_path / "a.png")
    with pytest.warns(DataWarning, match=r"reach only 4,\d+ of 65,535, but for 65,535 in few .*data\.range=\[0,4095\]"):
        FolderData(tmp_path)


def test_dark_color_files_are_reported_without_the_extra(tmp_path, monkeypatch):
    pytest.importorskip("tifffile").imwrite(tmp_path / "a.tif", np.dstack([TWELVE] * 3), photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.warns(DataWarning, match="16-bit values of a sample reach only"):
        FolderData(tmp_path)


def test_few_deep_files_among_many_are_in_the_sample(tmp_path):
    names = [f"{index}.jpg" for index in range(5000)]
    names[4321], names[77] = "rare.TIF", "rare.npy"
    assert {77, 4321} <= set(sample_of_names(names)) and len(sample_of_names(names)) <= 34
    for index in range(200):
        Image.fromarray(EIGHT[:8, :8]).save(tmp_path / f"{index:03}.jpg")
    Image.fromarray(TWELVE).save(tmp_path / "rare.tif")
    with pytest.warns(DataWarning, match=r"rare\.tif: 16-bit values of a sample reach only"):
        FolderData(tmp_path)


def test_a_given_range_that_does_not_fit_some_files_is_reported(tmp_path):
    Image.fromarray(TWELVE).save(tmp_path / "deep.png")
    FolderData(tmp_path, range=(0, 4095))  # no warning
    with pytest.warns(
        DataWarning, match=r"deep\.png: 16-bit values .* only 4,\d+, so with data\.range=\[0,65535\].*black"
    ):
        FolderData(tmp_path, range=(0, 65535))
    with pytest.warns(DataWarning, match=r"deep\.png: most 16-bit values .*\[0,255\] these images are nearly white"):
        FolderData(tmp_path, range=(0, 255))
    Image.fromarray(EIGHT).save(tmp_path / "shallow.jpg")
    with pytest.warns(DataWarning, match=r"shallow\.jpg: 8-bit values .* data\.range=\[0,4095\] .* nearly black"):
        FolderData(tmp_path, range=(0, 4095))
    FolderData(tmp_path, range=(0, 4095), exclude=["*.jpg"])


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_gray_value_becomes_white_and_the_others_keep_their_depth(tmp_path, depth):
    (tmp_path / "a.png").write_bytes(png(TWELVE * 16, 0, transparent=int(TWELVE[5, 6]) * 16))
    value = TWELVE[5, 6]
    clear = value == TWELVE
    exact = np.where(clear, 1.0, TWELVE * 16 / 65535)
    found = Decoder(channels=1, depth=depth).decode(tmp_path / "a.png")[0].double().numpy()
    np.testing.assert_allclose(
        found / (1 if depth == 16 else 255), exact, rtol=0, atol=1e-7 if depth == 16 else 0.5 / 255
    )
    color = Decoder(depth=depth).decode(tmp_path / "a.png")
    assert torch.equal(color[0], color[2]) and color.shape == (3, 64, 64)


def test_a_missing_extra_is_no_damaged_image(tmp_path, monkeypatch):
    pytest.importorskip("tifffile").imwrite(
        tmp_path / "a.tif", RNG.integers(0, 256, (8, 8, 6), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    assert FolderData(tmp_path, bands="all").channels == 6
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for bands in ("all", (0, 5)):
        with pytest.raises(Exception, match=r'pip install .*"ssl_lib\[tiff\]"'):
            FolderData(tmp_path, bands=bands, on_error="skip")
    data = FolderData(tmp_path, bands=(0, 5), mean=(0.5,) * 2, std=(0.2,) * 2, on_error="skip")
    with pytest.raises(DataError, match=r'"ssl_lib\[tiff\]"') as error:
        data.read(0)
    assert type(error.value) is DataError  # not a SkipImage


def test_the_reason_is_given_if_no_bands_can_be_counted(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"no file of a sample can be read.*a\.npy: "):
        FolderData(tmp_path, bands="all")


def test_planar_files_of_sixteen_bits_are_read_right(tmp_path):
    pixels = RNG.integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    write = pytest.importorskip("tifffile").imwrite
    write(tmp_path / "a.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    found = FolderData(tmp_path).read(0).permute(1, 2, 0).numpy()
    assert np.abs(found - pixels / 257).max() <= 0.5 + 1e-4


def test_a_single_hot_pixel_suggests_a_range_that_is_valid(tmp_path):
    black = np.zeros((64, 64), np.uint16)
    black[3, 3] = 65535
    Image.fromarray(black).save(tmp_path / "a.png")
    with pytest.warns(DataWarning, match=r"data\.range=\[0,1\] or"):
        FolderData(tmp_path)
