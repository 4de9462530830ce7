from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import ConcatDataset, Dataset, Subset

from ssl_lib.data import ArrayData, FolderData, ImageData, WrappedDataset, as_image_data
from ssl_lib.data.base import DataWarning
from ssl_lib.data.io.sample import sample_of
from ssl_lib.errors import DataError
from ssl_lib.utils.warn_once import forget_warnings

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


class Items(Dataset):
    def __init__(self, items, **attributes):
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        lambda pixels: (Image.fromarray(pixels), 3),
        lambda pixels: [torch.from_numpy(pixels).permute(2, 0, 1), 3, "extra"],
        lambda pixels: (pixels, 3),
    ],
)
def test_supported_item_types_give_the_same_images(convert):
    data = as_image_data(Items([convert(pixels) for pixels in PIXELS]))
    assert isinstance(data, ImageData)
    assert len(data) == 4 and data.labels is None
    for index in range(4):
        np.testing.assert_array_equal(data.read(index).permute(1, 2, 0).numpy(), PIXELS[index])


def test_gray_images_are_expanded_to_the_channels_of_the_mean():
    gray = PIXELS[0, :, :, 0]
    items = Items([Image.fromarray(gray), gray, torch.from_numpy(gray)[None], gray[..., None]])
    for index in range(4):
        color = WrappedDataset(items, (0.5,) * 3, (0.5,) * 3)
        np.testing.assert_array_equal(color.read(index).numpy(), np.stack([gray] * 3))
        np.testing.assert_array_equal(WrappedDataset(items).read(index).numpy(), gray[None])
        np.testing.assert_array_equal(WrappedDataset(items, (0.5,), (0.5,)).read(index).numpy(), gray[None])


def test_labels_and_class_names_come_from_targets_and_classes():
    data = as_image_data(Items(list(PIXELS), targets=[2, 0, 1, 1], classes=["a", "b", "c"]))
    assert data.labels.tolist() == [2, 0, 1, 1] and data.labels.dtype == torch.int64
    assert data.class_names == ("a", "b", "c")
    for targets, message in (([0, 1], "4 integers"), ([0.5] * 4, "fractions"), ([[0]] * 4, r"shape \(4, 1\)")):
        with pytest.raises(ValueError, match=message):
            WrappedDataset(Items(list(PIXELS), targets=targets))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 4, 4), "remove ToTensor"),
        (torch.zeros(4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(5, 4, 4, dtype=torch.uint8), "would have 5 channels"),
        (torch.zeros(64, 48, 3, dtype=torch.uint8), r"write images\.permute\(2, 0, 1\)"),
        (np.zeros((3, 64, 48), np.uint8), r"write images\.transpose\(1, 2, 0\)"),
        ("path.png", "got str"),
    ],
)
def test_unsupported_item_raises_an_error(item, message):
    with pytest.raises(DataError, match=message) as caught:
        as_image_data(Items([PIXELS[0], (item, 1)])).read(1)
    assert "item 1 of Items" in str(caught.value)


def test_number_of_channels_is_the_largest_of_a_sample_and_later_images_are_never_reduced():
    gray, color = Image.fromarray(PIXELS[0, :, :, 0]), Image.fromarray(PIXELS[1])
    data = WrappedDataset(Items([gray, *[color] * 99]))
    assert data.channels == 3
    np.testing.assert_array_equal(data.read(0).numpy(), np.stack([PIXELS[0, :, :, 0]] * 3))
    sample = sample_of(1000)
    rare = WrappedDataset(Items([color if index == 999 else gray for index in range(1000)]))
    assert 999 not in sample and rare.channels == 1 and 0 in sample
    with pytest.raises(DataError, match=r"item 999 of Items has 3 channels, the data set has 1: .*channels=3"):
        rare.read(999)
    assert WrappedDataset(rare.dataset, channels=3).read(999).shape[0] == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        pixels = WrappedDataset(Items([image])).read(0)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_image_data_is_returned_unchanged_and_iterators_raise_an_error():
    data = ArrayData(PIXELS)
    assert as_image_data(data) is data
    with pytest.raises(ValueError, match="must be a map-style Dataset"):
        as_image_data(iter(PIXELS))
    with pytest.raises(ValueError, match="need one value for each of 1 channel"):
        WrappedDataset(Items([PIXELS[0]]), (0.5,), (0.5, 0.5))


def test_empty_data_set_or_unsupported_first_item_raises_an_error():
    with pytest.raises(DataError, match="Items is empty"):
        as_image_data(Items([]))
    with pytest.raises(DataError, match=r"item 0 of Items .* remove ToTensor"):
        as_image_data(Items([torch.zeros(3, 4, 4)]))


@pytest.mark.parametrize(
    ("item", "channels"),
    [
        (Image.new("RGB", (4, 4)), 3),
        (Image.new("P", (4, 4)), 3),
        (Image.new("L", (4, 4)), 1),
        (Image.new("I;16", (4, 4)), 1),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), 1),
        (torch.zeros(4, 4, 4, dtype=torch.uint8), 4),
        (Image.new("LA", (4, 4)), 1),
        (Image.new("CMYK", (4, 4)), 3),
        (np.zeros((4, 4), dtype=np.uint8), 1),
        (np.zeros((4, 4, 3), dtype=np.uint8), 3),
    ],
)
def test_number_of_channels_comes_from_the_images(item, channels):
    data = as_image_data(Items([item]))
    assert data.channels == len(data.mean) == len(data.read(0)) == channels


def test_more_than_four_channels_are_given():
    items = Items([torch.arange(80, dtype=torch.uint8).view(5, 4, 4)])
    data = WrappedDataset(items, channels=5)
    assert data.channels == 5 and torch.equal(data.read(0), items[0])
    assert torch.equal(WrappedDataset(items, (0.5,) * 5, (0.5,) * 5).read(0), items[0])


def test_labels_are_read_inside_of_subsets_and_concatenations():
    first = Items(list(PIXELS), targets=[2, 0, 1, 1], classes=["a", "b", "c"])
    second = Items(list(PIXELS), targets=torch.tensor([0, 0, 2, 1]), classes=["a", "b", "c"])
    both = ConcatDataset([Subset(first, [3, 0]), second])
    nested = as_image_data(Subset(both, torch.tensor([5, 1, 0])))
    assert nested.labels.tolist() == [1, 2, 1] and nested.class_names == ("a", "b", "c")
    assert as_image_data(both).labels.tolist() == [1, 2, 0, 0, 2, 1]
    for index, item in enumerate([3, 0, 3]):
        np.testing.assert_array_equal(nested.read(index).permute(1, 2, 0).numpy(), PIXELS[item])


def test_concatenations_of_other_classes_have_no_labels():
    first = Items(list(PIXELS), targets=[0] * 4, classes=["a", "b"])
    for other in (Items(list(PIXELS)), Items(list(PIXELS), targets=[0] * 4, classes=["b", "a"])):
        with pytest.warns(DataWarning, match="have other classes, or some have no targets"):
            assert as_image_data(ConcatDataset([first, other])).labels is None
        forget_warnings()
    assert as_image_data(Subset(Items(list(PIXELS)), [0])).labels is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([2, 0, 1, 1]), [2, 0, 1, 1]),
        (torch.tensor([2, 0, 1, 1], dtype=torch.uint8), [2, 0, 1, 1]),
        ([np.int64(2), np.int32(0), 1, True], [2, 0, 1, 1]),
        (("c", "a", "b", "b"), [2, 0, 1, 1]),
    ],
)
def test_attribute_labels_is_read_also_inside_of_others(labels, expected):
    items = Items(list(PIXELS), labels=labels, class_names=("a", "b", "c"))
    for dataset, places in (
        (items, [0, 1, 2, 3]),
        (Subset(items, [3, 0]), [3, 0]),
        (ConcatDataset([Subset(items, [3, 0]), items]), [3, 0, 0, 1, 2, 3]),
        (Subset(ConcatDataset([items, Subset(ConcatDataset([items, items]), [5, 2])]), [4, -1, 0]), [1, 2, 0]),
    ):
        data = as_image_data(dataset)
        assert data.labels.tolist() == [expected[place] for place in places] and data.class_names == ("a", "b", "c")


def test_image_folders_inside_of_subsets_keep_their_classes(tmp_path):
    for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[0]).save(tmp_path / name)
    data = as_image_data(Subset(FolderData(tmp_path), [2, 0]))
    assert data.labels.tolist() == [1, 0] and data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data.read(1).permute(1, 2, 0).numpy(), PIXELS[0])


@pytest.mark.parametrize(
    "labels", [["cat", "dog"], np.zeros((4, 40)), [0, 1, -1, -1], [0.5] * 4, [None, 1, 0, 1], {"a": 1}, 7]
)
def test_attribute_labels_that_is_not_one_class_per_item_is_reported(labels):
    with pytest.warns(DataWarning, match=r"the labels of Items are not one class per item"):
        assert as_image_data(Items(list(PIXELS), labels=labels)).labels is None
