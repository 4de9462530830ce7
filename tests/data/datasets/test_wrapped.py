from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from ssl_lib.data import ArrayData, ImageData, WrappedDataset, as_image_data
from ssl_lib.errors import DataError

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
    for targets in ([0, 1], [0.5] * 4):
        with pytest.raises(ValueError, match="4 integers"):
            WrappedDataset(Items(list(PIXELS), targets=targets))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 4, 4), "remove ToTensor"),
        (torch.zeros(4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(4, 4, 4, dtype=torch.uint8), "4 channels"),
        ("path.png", "got str"),
    ],
)
def test_unsupported_item_raises_an_error(item, message):
    with pytest.raises(DataError, match=message) as caught:
        as_image_data(Items([PIXELS[0], (item, 1)])).read(1)
    assert "item 1 of Items" in str(caught.value)


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
        (torch.zeros(5, 4, 4, dtype=torch.uint8), 5),
        (np.zeros((4, 4), dtype=np.uint8), 1),
        (np.zeros((4, 4, 3), dtype=np.uint8), 3),
    ],
)
def test_number_of_channels_comes_from_the_first_image(item, channels):
    data = as_image_data(Items([item]))
    assert data.channels == len(data.mean) == len(data.read(0)) == channels
