from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from ssl_lib.data import ArrayData, FolderData, evaluation_batches
from tests.data.image_samples import numbered

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_of_the_target_size_are_unchanged(tmp_path, size, mapped):
    data = numbered(folder=tmp_path if mapped else None)
    batches = list(evaluation_batches(data, batch_size=10, size=size))
    assert [len(batch.indices) for batch in batches] == [10, 10, 3]
    assert torch.equal(torch.cat([batch.images for batch in batches]), data.gather(torch.arange(23)))
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(23))[::-1]


def test_resize_also_crops_arrays_of_the_target_size():
    pixels = RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    (batch,) = evaluation_batches(ArrayData(pixels), size=8, resize=12)
    for image, original in zip(batch.images.permute(0, 2, 3, 1).numpy(), pixels, strict=True):
        expected = CenterCrop(8)(Resize(12, InterpolationMode.BICUBIC)(Image.fromarray(original)))
        np.testing.assert_allclose(image.astype(int), np.asarray(expected).astype(int), atol=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_resize_and_crop_equal_pillow(folder, workers):
    data = FolderData(folder)
    batches = list(evaluation_batches(data, batch_size=4, size=14, workers=workers))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(11))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels)
    images = torch.cat([batch.images for batch in batches])
    for index, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        with Image.open(data.path(index)) as original:
            expected = CenterCrop(14)(Resize(16, InterpolationMode.BICUBIC)(original))
        np.testing.assert_allclose(image.astype(int), np.asarray(expected).astype(int), atol=1)


def test_resized_arrays_equal_pillow():
    pixels = RNG.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    (batch,) = evaluation_batches(ArrayData(pixels), size=7)
    for image, original in zip(batch.images.permute(0, 2, 3, 1).numpy(), pixels, strict=True):
        expected = CenterCrop(7)(Resize(8, InterpolationMode.BICUBIC)(Image.fromarray(original)))
        np.testing.assert_allclose(image.astype(int), np.asarray(expected).astype(int), atol=1)
