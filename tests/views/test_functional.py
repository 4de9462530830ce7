"""Color operations, normalization and erasing compared with torchvision, image by image."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from ssl_lib.views import functional
from tests.views.samples import COUNT, factors, random_boxes

ADJUST = ["brightness", "contrast", "saturation", "hue"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ADJUST)
def test_adjust_equals_torchvision(images, name, dtype):
    images, factor = images.to(dtype), factors(name)
    ours = getattr(functional, f"adjust_{name}")(images, factor)
    expected = [getattr(reference, f"adjust_{name}")(x, float(f)) for x, f in zip(images, factor, strict=True)]
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, torch.stack(expected), rtol=0, atol=1e-5)


def test_hue_equals_colorsys_in_float64():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(64, 3, 1, 1, generator=generator, dtype=torch.float64)
    turn = torch.rand(64, generator=generator, dtype=torch.float64) - 0.5
    expected = []
    for pixel, t in zip(pixels.flatten(1).tolist(), turn.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected.append(colorsys.hsv_to_rgb((hue + t) % 1.0, saturation, value))
    np.testing.assert_allclose(functional.adjust_hue(pixels, turn).flatten(1).numpy(), expected, atol=1e-12)


def test_hue_shifts_that_add_up_to_a_full_turn_change_nothing(images):
    shifted = functional.adjust_hue(
        functional.adjust_hue(images, torch.full((COUNT,), 0.5)), torch.full((COUNT,), -0.5)
    )
    torch.testing.assert_close(shifted, images, rtol=0, atol=1e-5)


def test_grayscale_and_solarize_equal_torchvision(images):
    channels = images.shape[1]
    gray = images if channels == 1 else torch.stack([reference.rgb_to_grayscale(x, channels) for x in images])
    torch.testing.assert_close(functional.to_grayscale(images), gray, rtol=0, atol=1e-5)
    for threshold in (0.0, 0.5, 1.0):
        expected = torch.stack([reference.solarize(x, threshold) for x in images])
        torch.testing.assert_close(functional.solarize(images, threshold), expected, rtol=0, atol=1e-7)


def test_normalize_and_horizontal_flip_equal_torchvision(images):
    channels = images.shape[1]
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4][:channels]
    expected = torch.stack([reference.normalize(x, mean, std) for x in images])
    torch.testing.assert_close(functional.normalize(images, mean, std), expected, rtol=0, atol=1e-5)
    mask = torch.arange(COUNT) % 3 == 0
    flipped = [reference.horizontal_flip(x) if m else x for x, m in zip(images, mask, strict=True)]
    assert torch.equal(functional.horizontal_flip(images, mask), torch.stack(flipped))


def test_posterize_and_erase_equal_torchvision(images):
    bits = torch.arange(COUNT) % 8 + 1
    expected = [reference.posterize(x, b) for x, b in zip(images, bits.tolist(), strict=True)]
    torch.testing.assert_close(functional.posterize(images, bits), torch.stack(expected), rtol=0, atol=1e-7)
    boxes = random_boxes(torch.Generator().manual_seed(2))
    boxes[0] = torch.tensor([3, 4, 0, 7])
    value = torch.full((1, 1, 1), 0.25)
    expected = [reference.erase(x, *box, value) for x, box in zip(images, boxes.tolist(), strict=True)]
    assert torch.equal(functional.erase(images, boxes, 0.25), torch.stack(expected))


def test_no_operation_works_in_place(images):
    before, factor = images.clone(), factors("contrast")
    for name in ADJUST:
        getattr(functional, f"adjust_{name}")(images, factor)
    functional.to_grayscale(images)
    functional.solarize(images, 0.5)
    functional.gaussian_blur(images, factor + 0.1, 3)
    functional.normalize(images, [0.5], [0.2])
    functional.horizontal_flip(images, factor > 1)
    functional.resized_crop(images, random_boxes(torch.Generator().manual_seed(0)), 9)
    functional.vertical_flip(images, factor > 1)
    functional.rotate(images, factor)
    functional.posterize(images, torch.full((COUNT,), 3))
    functional.erase(images, random_boxes(torch.Generator().manual_seed(0)), 0.5)
    assert torch.equal(images, before)
