"""Ranges, depths and bands are read alike in folders, torch data sets and Hugging Face data sets."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from ssl_lib.data import FolderData, WrappedDataset, huggingface
from ssl_lib.data.base import DataWarning, SkipImage
from ssl_lib.errors import DataError

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (5, 9, 12), dtype=np.uint16)
FOUR = RNG.integers(0, 256, (5, 9, 12, 4), dtype=np.uint8)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index], 0


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def pil(pixels):
    return [Image.fromarray(one) for one in pixels]


ITEMS = {
    "PIL images": pil,
    "contents of files": lambda pixels: [encoded(image, format="TIFF") for image in pil(pixels)],
    "arrays": list,
    "tensors": lambda pixels: [torch.from_numpy(one.copy())[None] for one in pixels],
}


def in_folder(root, items):
    root.mkdir()
    for index, image in enumerate(items):
        image.save(root / f"{index}.tif")
    return root


def in_table(root, items):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    rows = [{"bytes": encoded(image, format="TIFF"), "path": None} for image in items]
    datasets.Dataset.from_dict({"image": rows}, features=features).save_to_disk(root)
    return root


@pytest.mark.parametrize("items", ITEMS)
@pytest.mark.parametrize("depth", [8, 16])
def test_twelve_bits_of_a_torch_data_set(items, depth):
    data = WrappedDataset(Items(ITEMS[items](TWELVE)), channels=1, range=(0, 4095), depth=depth)
    for index, pixels in enumerate(TWELVE):
        exact = torch.from_numpy(pixels / 4095.0)[None]
        found = data.read(index)
        if depth == 16:
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-7)
        else:
            assert torch.equal(found, (exact.float() * 255).round().to(torch.uint8))


@pytest.mark.parametrize("items", ITEMS)
def test_twelve_bits_without_a_range_are_reported(items):
    with pytest.warns(DataWarning, match=rf"reach only {TWELVE.max():,} of 65,535.*data\.range=\[0,4095\]"):
        WrappedDataset(Items(ITEMS[items](TWELVE)))
    WrappedDataset(Items(ITEMS[items](TWELVE)), range="percentile")


def test_hugging_face_reads_files_as_folders_do(tmp_path):
    for name, pixels, options in (
        ("twelve bits", TWELVE, {"range": (0, 4095), "depth": 16, "mean": (0.5,), "std": (0.2,)}),
        ("some bands", FOUR, {"bands": (3, 0)}),
        ("all bands", FOUR, {"bands": "all", "range": "percentile"}),
    ):
        images = pil(pixels)
        channels = 1 if pixels is TWELVE else 3
        folder = FolderData(in_folder(tmp_path / name, images), channels=channels, **options)
        data = huggingface(in_table(tmp_path / f"{name} set", images), **options)
        assert (data.channels, data.mean, data.std) == (folder.channels, folder.mean, folder.std)
        for index in range(len(pixels)):
            assert torch.equal(data.read(index), folder.read(index)), name


@pytest.mark.parametrize("items", ["PIL images", "arrays"])
def test_chosen_bands_have_their_own_statistics(items):
    data = WrappedDataset(Items(ITEMS[items](FOUR)), bands=(3, 1))
    assert data.channels == 2
    for index, pixels in enumerate(FOUR):
        np.testing.assert_array_equal(data.read(index).numpy(), pixels[..., [3, 1]].transpose(2, 0, 1))
    exact = (FOUR[..., [3, 1]] / 255).reshape(-1, 2)
    np.testing.assert_allclose(data.mean, exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(data.std, exact.std(0), rtol=1e-9)


def test_contents_of_files_are_turned_upright_and_composited(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    color = Image.fromarray(FOUR[0, ..., :3])
    clear = Image.fromarray(np.dstack((FOUR[0, ..., :3], np.zeros((9, 12), np.uint8))))
    data = WrappedDataset(Items([encoded(color, format="PNG", exif=exif), encoded(clear, format="PNG")]))
    np.testing.assert_array_equal(data.read(0).permute(1, 2, 0), np.rot90(FOUR[0, ..., :3], -1))
    assert (data.read(1) == 255).all()
    damaged = WrappedDataset(Items([encoded(color, format="PNG"), b"no image"]))
    with pytest.raises(DataError, match="item 1 of Items cannot be read as an image"):
        damaged.read(1)


def test_gray_and_wide_arrays_keep_their_channels_at_a_range():
    five = RNG.integers(0, 1000, (3, 9, 12, 5)).astype(np.int32)
    data = WrappedDataset(Items(list(five)), channels=5, range=(0, 1000), depth=16)
    np.testing.assert_allclose(data.read(2), five[2].transpose(2, 0, 1) / 1000, atol=1e-7)
    gray = WrappedDataset(Items([TWELVE[0], FOUR[0, ..., :3].astype(np.uint16)]), range=(0, 4095))
    assert gray.channels == 3 and torch.equal(gray.read(0)[0], gray.read(0)[2])


def test_floats_need_a_range():
    with pytest.raises(DataError, match="remove ToTensor and Normalize"):
        WrappedDataset(Items([torch.rand(3, 8, 8)]))
    data = WrappedDataset(Items([torch.full((3, 8, 8), 0.5)]), range=(0, 1))
    assert (data.read(0) == 128).all()


def test_contents_that_pillow_cannot_open_keep_their_channels():
    rgb = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, rgb)
    floats = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(floats, (rgb / 255).astype(np.float32), photometric="rgb")
    for content, options in ((buffer.getvalue(), {}), (floats.getvalue(), {"range": (0, 1)})):
        np.testing.assert_array_equal(WrappedDataset(Items([content]), **options).read(0).permute(1, 2, 0), rgb)


def test_bands_and_pages_of_contents_are_checked_when_the_data_set_is_opened():
    tifffile = pytest.importorskip("tifffile")
    stack, bands = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(stack, TWELVE * 16, photometric="minisblack")
    tifffile.imwrite(bands, FOUR[0], photometric="minisblack", planarconfig="contig")
    with pytest.warns(DataWarning, match="has 5 pages, but only the first"):
        WrappedDataset(Items([stack.getvalue()]))
    with pytest.raises(DataError, match=r"has 4 bands, none of them marked as alpha: .*data\.bands=all"):
        WrappedDataset(Items([bands.getvalue()]))
    assert WrappedDataset(Items([bands.getvalue()]), bands="all").channels == 4
    with pytest.raises(ValueError, match="pages must be 'first'"):
        WrappedDataset(Items([stack.getvalue()]), pages="all")


def test_hugging_face_modes_missing_images_and_skipped_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    color = [encoded(Image.fromarray(one[..., :3]), format="PNG") for one in FOUR]

    def table(name, contents, **feature):
        features = datasets.Features({"image": datasets.Image(**feature)})
        rows = [None if content is None else {"bytes": content, "path": None} for content in contents]
        datasets.Dataset.from_dict({"image": rows}, features=features).save_to_disk(tmp_path / name)
        return tmp_path / name

    gray = huggingface(table("gray", color, mode="L"))
    assert gray.channels == 1 and np.array_equal(gray.read(1)[0], Image.fromarray(FOUR[1, ..., :3]).convert("L"))
    with pytest.raises(DataError, match="item 1 of _Images is missing: row 1 of the column 'image' has no image"):
        huggingface(table("missing", [color[0], None]))
    damaged = table("damaged", [color[0], b"no image"])
    with pytest.raises(DataError, match=r"item 1 of _Images cannot be read .*cannot identify image file it"):
        huggingface(damaged).read(1)
    with pytest.raises(SkipImage):
        huggingface(damaged, on_error="skip").read(1)
    with pytest.raises(DataError, match=r"raise data\.max_pixels"):
        huggingface(table("large", color), max_pixels=100)
    assert huggingface(tmp_path / "large", max_pixels=108).read(0).shape == (3, 9, 12)
    tga = [encoded(Image.fromarray(one[..., :3]), format="TGA") for one in FOUR]
    np.testing.assert_array_equal(huggingface(table("tga", tga)).read(2).permute(1, 2, 0), FOUR[2, ..., :3])


def test_tensors_and_arrays_that_numpy_cannot_share():
    pixels = torch.from_numpy(FOUR[0, ..., :3].copy())
    for item in (pixels.permute(2, 0, 1).flip(2), FOUR[0, :, ::-1, :3]):
        np.testing.assert_array_equal(WrappedDataset(Items([item])).read(0).permute(1, 2, 0), FOUR[0, :, ::-1, :3])
    for wrong in (torch.zeros(3, 8, 8, dtype=torch.bfloat16), torch.zeros(3, 8, 8, device="meta", dtype=torch.uint8)):
        with pytest.raises(DataError, match="item 0 of Items must be a PIL image or uint8 pixels"):
            WrappedDataset(Items([wrong]))
    many = WrappedDataset(Items([np.zeros((9, 12, 12), np.uint8)]), (0.5,) * 3, (0.2,) * 3, 12, bands=(0, 1, 2))
    assert many.read(0).shape == (3, 9, 12)
