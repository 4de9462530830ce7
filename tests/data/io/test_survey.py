"""What a sample of the files reveals when a data set is opened: ranges, pages, bands and their statistics."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import IMAGENET_MEAN, FolderData, ShardData, image_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.data.io.sample import sample_of
from ssl_lib.data.io.tiff import page_numbers
from ssl_lib.errors import DataError
from tests.data.shard_samples import write

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (4, 9, 12), dtype=np.uint16)
FIVE = RNG.integers(0, 256, (4, 9, 12, 5), dtype=np.uint8)


def stack(path, pages=TWELVE, **options):
    """Writes a TIFF file of several pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(page) for page in pages]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


@pytest.mark.parametrize("count", [1, 2, 31, 1000, 10**8])
def test_sample_is_fixed_sorted_and_small(count):
    sample = sample_of(count)
    torch.manual_seed(1)
    assert sample == sample_of(count) == sorted(set(sample))
    assert sample[0] == 0 and sample[-1] < count and len(sample) <= 32


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "big.tif"])
def test_sixteen_bit_files_that_are_nearly_black_are_reported_with_the_range(tmp_path, name):
    if name.endswith("npy"):
        np.save(tmp_path / name, TWELVE[0])
    elif name == "big.tif":
        Image.frombytes("I;16B", (12, 9), TWELVE[0].astype(">u2").tobytes()).save(tmp_path / name)
    else:
        Image.fromarray(TWELVE[0]).save(tmp_path / name)
    message = rf"{name}: 16-bit values of a sample reach only {TWELVE[0].max():,} .*data\.range=\[0,4095\]"
    with pytest.warns(DataWarning, match=message) as found:
        FolderData(tmp_path)
    assert len(found) == 1
    (tmp_path / "full").mkdir()
    Image.fromarray(TWELVE[0] * 16).save(tmp_path / "full" / "b.png")
    FolderData(tmp_path / "full")  # no warning
    FolderData(tmp_path, range=(0, 4095))
    FolderData(tmp_path, range="percentile")
    FolderData(tmp_path, exclude=["a.*", "big.*"])


def test_color_files_of_sixteen_bits_are_reported_too(tmp_path):
    pytest.importorskip("tifffile").imwrite(tmp_path / "a.tif", TWELVE[:3].transpose(1, 2, 0), photometric="rgb")
    with pytest.warns(DataWarning, match="16-bit values of a sample reach only"):
        FolderData(tmp_path)


def test_dark_images_of_eight_bits_and_black_images_are_not_reported(tmp_path):
    Image.fromarray(np.zeros((9, 12), np.uint16)).save(tmp_path / "black.png")
    Image.fromarray(np.full((9, 12), 3, np.uint8)).save(tmp_path / "dark.tif")
    assert len(FolderData(tmp_path)) == 2


def test_pages_are_reported_or_images_of_their_own(tmp_path):
    for name, pages in (("a", TWELVE[:3] * 16), ("b", TWELVE[:1] * 16)):
        stack(tmp_path / name / "x#1.tif", pages)
    with pytest.warns(DataWarning, match=r"x#1\.tif has 3 pages, but only the first .* data\.pages=all"):
        first = FolderData(tmp_path, channels=1)
    assert len(first) == 2 and first.labels.tolist() == [0, 1]
    every = FolderData(tmp_path, channels=1, pages="all", depth=16)
    assert every.labels.tolist() == [0, 0, 0, 1]
    assert [every.name(index) for index in range(4)] == ["a/x#1.tif", "a/x#1.tif#1", "a/x#1.tif#2", "b/x#1.tif"]
    expected = np.stack([*TWELVE[:3], TWELVE[0]]) * 16
    for index in range(4):
        np.testing.assert_array_equal(np.rint(every.read(index)[0].numpy() * 65535), expected[index])


def test_pages_of_a_file_are_held_out_together(tmp_path):
    for label in "ab":
        for file in range(4):
            stack(tmp_path / label / f"{file}.tif", TWELVE * 16)
    with pytest.warns(DataWarning, match="held out"):
        train = image_folder(tmp_path, pages="all", hold_out=0.25)
    test = image_folder(tmp_path, pages="all", hold_out=0.25, split="test")
    assert (len(train), len(test)) == (24, 8)
    files = [{data.path(index) for index in range(len(data))} for data in (train, test)]
    assert (len(files[0]), len(files[1])) == (6, 2) and not files[0] & files[1]


@pytest.mark.parametrize("big", [False, True])
def test_smaller_copies_are_not_pages(tmp_path, big):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big, byteorder=">" if big else "<") as file:
        for page, kind in ((TWELVE[0], 0), (TWELVE[0, ::2, ::2], 1), (TWELVE[1], 2)):
            file.write(page * 16, subfiletype=kind)
    assert page_numbers(tmp_path / "a.tif") == page_numbers((tmp_path / "a.tif").read_bytes()) == [0, 2]
    data = FolderData(tmp_path, pages="all", channels=1, depth=16)
    assert len(data) == 2 and data.name(1) == "a.tif#2"
    np.testing.assert_array_equal(np.rint(data.read(1)[0].numpy() * 65535), TWELVE[1] * 16)


def test_all_bands_are_kept_with_the_statistics_of_a_sample(tmp_path):
    for index, pixels in enumerate(FIVE):
        np.save(tmp_path / f"{index}.npy", pixels)
    data = FolderData(tmp_path, bands="all")
    assert data.channels == len(data.mean) == len(data.std) == 5
    sample = FIVE.reshape(-1, 5) / 255
    np.testing.assert_allclose(data.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.std, sample.std(0), rtol=1e-6)
    np.testing.assert_array_equal(data.read(2).permute(1, 2, 0).numpy(), FIVE[2])
    chosen = FolderData(tmp_path, bands=[4, 0])
    assert chosen.channels == 2
    np.testing.assert_allclose(chosen.mean, sample.mean(0)[[4, 0]], rtol=1e-6)
    given = FolderData(tmp_path, bands="all", mean=(0.5,) * 5, std=(0.25,) * 5)
    assert given.mean == (0.5,) * 5
    assert FolderData(tmp_path, bands=[0, 1, 2]).mean == (0.485, 0.456, 0.406)


def test_shards_keep_bands_and_report_ranges(tmp_path):
    members = [(f"{index}.npy", _npy(pixels)) for index, pixels in enumerate(FIVE)]
    write(tmp_path / "a.tar", members)
    data = ShardData(str(tmp_path / "a.tar"), bands="all")
    assert data.channels == 5
    np.testing.assert_array_equal(data.read(1).permute(1, 2, 0).numpy(), FIVE[1])
    write(tmp_path / "b.tar", [("0.npy", _npy(TWELVE[0]))])
    with pytest.warns(DataWarning, match=r"b\.tar:0\.npy: 16-bit values"):
        ShardData(str(tmp_path / "b.tar"))
    with pytest.raises(ValueError, match="pages must be 'first' for shards"):
        ShardData(str(tmp_path / "b.tar"), pages="all")


def _npy(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def test_files_with_different_bands_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", FIVE[0])
    np.save(tmp_path / "b.npy", FIVE[0, ..., :4])
    with pytest.raises(DataError, match=r"different numbers of bands \(.*a\.npy has 5, .*b\.npy has 4\): choose some"):
        FolderData(tmp_path, bands="all")
    assert FolderData(tmp_path, bands=(3, 2)).channels == 2


@pytest.mark.parametrize("kind", ["empty", "text", "dangling link", "pipe", "damaged"])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_unreadable_files_are_not_an_error_before_they_are_read(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "missing")
    else:
        path.write_bytes({"empty": b"", "text": b"no image", "damaged": b"II*\0\xff\xff\xff\x7f"}[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = FolderData(tmp_path)
    with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
        data.read(0)
    with pytest.raises(DataError, match="no file of a sample can be read"):
        FolderData(tmp_path, bands="all")
    if name.endswith("tif") and kind in ("empty", "dangling link", "pipe", "damaged"):
        with pytest.raises(DataError, match=r"a\.tif: its pages cannot be counted"):
            FolderData(tmp_path, pages="all")
    assert len(FolderData(tmp_path, pages="all", on_error="skip")) == 1


def test_three_chosen_bands_that_are_not_rgb_have_statistics_of_their_own(tmp_path):
    for index, pixels in enumerate(FIVE):
        np.save(tmp_path / f"{index}.npy", pixels)
    chosen = FolderData(tmp_path, bands=[3, 0, 1])
    sample = FIVE.reshape(-1, 5)[:, [3, 0, 1]] / 255
    np.testing.assert_allclose(chosen.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(chosen.std, sample.std(0), rtol=1e-6)
    one = FolderData(tmp_path, bands=[4])
    np.testing.assert_allclose(one.mean, FIVE[..., 4].mean() / 255, rtol=1e-6)
    assert FolderData(tmp_path, bands=[0, 1, 2]).mean == IMAGENET_MEAN


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_files_with_more_bands_are_refused_when_the_data_set_is_opened(tmp_path, on_error):
    np.save(tmp_path / "a.npy", FIVE[0])
    with pytest.raises(DataError, match=r"a\.npy has 5 bands, .*data\.bands=\[0,1,2\], .*data\.bands=all"):
        FolderData(tmp_path, on_error=on_error)
    Image.fromarray(FIVE[0, ..., :4]).save(tmp_path / "b.png")  # the file says that the fourth is alpha
    assert len(FolderData(tmp_path, exclude=["*.npy"])) == 1


def test_bands_of_large_files_are_counted_up_to_max_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.fromarray(FIVE[0, ..., :4]).save(tmp_path / "a.tif")
    data = FolderData(tmp_path, bands="all", max_pixels=9 * 12)
    assert data.channels == 4
    with pytest.raises(DataError, match="no file of a sample can be read"):
        FolderData(tmp_path, bands="all", max_pixels=9 * 12 - 1)
