"""Crop, flip, rotation and blur compared with torchvision, image by image."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from ssl_lib.views import functional, resample
from tests.views.samples import COUNT, WIDTH, factors, random_boxes


@pytest.mark.parametrize("kernel_size", [1, 3, 9, 57])
def test_blur_equals_torchvision(images, kernel_size):
    sigma = 0.1 + factors("sigma")
    expected = [
        reference.gaussian_blur(x, [kernel_size] * 2, [float(s)] * 2) for x, s in zip(images, sigma, strict=True)
    ]
    ours = functional.gaussian_blur(images, sigma, kernel_size)
    torch.testing.assert_close(ours, torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 8, 29, 64])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_resized_crop_equals_torchvision(images, size, interpolation, dtype, atol):
    images = images.to(dtype)
    boxes = random_boxes(torch.Generator().manual_seed(size))
    mode = InterpolationMode(interpolation)
    expected = torch.stack(
        [
            reference.resized_crop(x, *box, [size, size], mode, antialias=True)
            for x, box in zip(images, boxes.tolist(), strict=True)
        ]
    )
    ours = functional.resized_crop(images, boxes, size, interpolation)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


def test_resizing_a_constant_image_keeps_its_value(images):
    constant = torch.full_like(images, 0.3)
    resized = functional.resized_crop(constant, random_boxes(torch.Generator().manual_seed(5)), 20, "bicubic")
    torch.testing.assert_close(resized, torch.full_like(resized, 0.3), rtol=0, atol=1e-6)


def test_quarter_turns_and_vertical_flip_equal_torch(images):
    square, turns = images[..., :WIDTH, :], torch.arange(COUNT) - 5
    expected = [x.rot90(k, (-2, -1)) for x, k in zip(square, turns.tolist(), strict=True)]
    assert torch.equal(functional.quarter_turns(square, turns), torch.stack(expected))
    mask = turns > 0
    expected = [x.flip(-2) if m else x for x, m in zip(images, mask, strict=True)]
    assert torch.equal(functional.vertical_flip(images, mask), torch.stack(expected))


def test_rotate_equals_torchvision(images):
    angle = 360 * (factors("angle") - 1)
    mode = InterpolationMode.BILINEAR
    expected = [reference.rotate(x, float(a), mode) for x, a in zip(images, angle, strict=True)]
    torch.testing.assert_close(functional.rotate(images, angle), torch.stack(expected), rtol=0, atol=1e-4)
    exact = functional.rotate(images.double(), torch.full((COUNT,), 180.0))
    torch.testing.assert_close(exact, images.double().rot90(2, (-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes_boxes_and_channels_equal_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    count, height, width, channels = integer(1, 4), integer(2, 60), integer(2, 60), (1, 3, 2, 5)[seed % 4]
    x = torch.rand(count, channels, height, width, generator=generator)
    size, mode = integer(1, 70), ("bilinear", "bicubic")[seed % 2]
    boxes = []
    for _ in range(count):
        h, w = integer(1, height), integer(1, width)
        boxes.append([integer(0, height - h), integer(0, width - w), h, w])
    options = {"interpolation": InterpolationMode(mode), "antialias": True}
    expected = torch.stack(
        [reference.resized_crop(y, *box, [size, size], **options) for y, box in zip(x, boxes, strict=True)]
    )
    torch.testing.assert_close(functional.resized_crop(x, torch.tensor(boxes), size, mode), expected, rtol=0, atol=1e-4)
    kernel_size = 2 * integer(0, min(height, width) - 1) + 1
    sigma = 0.1 + 3 * torch.rand(count, generator=generator)
    expected = torch.stack(
        [reference.gaussian_blur(y, [kernel_size] * 2, [float(s)] * 2) for y, s in zip(x, sigma, strict=True)]
    )
    torch.testing.assert_close(functional.gaussian_blur(x, sigma, kernel_size), expected, rtol=0, atol=1e-5)
    pixels = (255 * x).byte().contiguous(memory_format=(torch.channels_last, torch.contiguous_format)[seed % 2])
    expected = torch.stack(
        [reference.resized_crop(y, *box, [size, size], **options) for y, box in zip(pixels, boxes, strict=True)]
    )
    cropped = resample.resized_crop_bytes(pixels, torch.tensor(boxes), size, mode)
    assert (cropped.int() - expected.int()).abs().max() <= 1  # of 255


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_crop_of_half_precision_images_uses_exact_positions(dtype, atol):
    images = torch.rand(4, 3, 400, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    boxes = torch.tensor([[0, 0, 400, 500], [13, 301, 377, 199], [399, 499, 1, 1], [200, 100, 90, 301]])
    exact = functional.resized_crop(images.double(), boxes, 96)
    torch.testing.assert_close(functional.resized_crop(images, boxes, 96).double(), exact, rtol=0, atol=atol)


def test_blur_does_not_depend_on_the_other_images():
    images = torch.rand(8, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    sigma = torch.linspace(0.1, 2.0, 8)
    together = functional.gaussian_blur(images, sigma, 23)
    apart = [functional.gaussian_blur(x[None], s[None], 23) for x, s in zip(images, sigma, strict=True)]
    assert torch.equal(together, torch.cat(apart))
