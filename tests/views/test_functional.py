"""Every batched operation against torchvision's, image by image."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from ssl_lib.views import functional, resample

COUNT, HEIGHT, WIDTH = 12, 37, 29

ADJUST = ["brightness", "contrast", "saturation", "hue"]


@pytest.fixture(params=[1, 3])
def images(request):
    """Noise, with patches of gray, black, white, primaries and secondaries, where hue and saturation are delicate."""
    batch = torch.rand(COUNT, request.param, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    batch[:, :, :4] = batch[:, :1, :4]
    batch[:, :, 4:6], batch[:, :, 6:8] = 0.0, 1.0
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T[: request.param]  # (C, 8)
    batch[:, :, 8, :8] = corners
    return batch


def factors(name, generator=None):
    drawn = torch.rand(COUNT, generator=generator or torch.Generator().manual_seed(1))
    drawn[:3] = torch.tensor([0.0, 0.5, 1.0])
    return drawn - 0.5 if name == "hue" else 2 * drawn


def random_boxes(generator):
    boxes = [[0, 0, HEIGHT, WIDTH], [5, 7, 1, 1], [HEIGHT - 1, 0, 1, WIDTH], [0, WIDTH - 2, HEIGHT, 2]]
    while len(boxes) < COUNT:
        height, width = (int(torch.randint(1, side + 1, (), generator=generator)) for side in (HEIGHT, WIDTH))
        top = int(torch.randint(HEIGHT - height + 1, (), generator=generator))
        boxes.append([top, int(torch.randint(WIDTH - width + 1, (), generator=generator)), height, width])
    return torch.tensor(boxes)


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


def test_whole_turns_of_the_hue_change_nothing(images):
    turned = functional.adjust_hue(functional.adjust_hue(images, torch.full((COUNT,), 0.5)), torch.full((COUNT,), -0.5))
    torch.testing.assert_close(turned, images, rtol=0, atol=1e-5)


def test_grayscale_and_solarize_equal_torchvision(images):
    channels = images.shape[1]
    gray = images if channels == 1 else torch.stack([reference.rgb_to_grayscale(x, channels) for x in images])
    torch.testing.assert_close(functional.to_grayscale(images), gray, rtol=0, atol=1e-5)
    for threshold in (0.0, 0.5, 1.0):
        expected = torch.stack([reference.solarize(x, threshold) for x in images])
        torch.testing.assert_close(functional.solarize(images, threshold), expected, rtol=0, atol=1e-7)


def test_normalize_and_flip_equal_torchvision(images):
    channels = images.shape[1]
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4][:channels]
    expected = torch.stack([reference.normalize(x, mean, std) for x in images])
    torch.testing.assert_close(functional.normalize(images, mean, std), expected, rtol=0, atol=1e-5)
    mask = torch.arange(COUNT) % 3 == 0
    flipped = [reference.horizontal_flip(x) if m else x for x, m in zip(images, mask, strict=True)]
    assert torch.equal(functional.horizontal_flip(images, mask), torch.stack(flipped))


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


def test_resizing_keeps_a_constant_image(images):
    constant = torch.full_like(images, 0.3)
    resized = functional.resized_crop(constant, random_boxes(torch.Generator().manual_seed(5)), 20, "bicubic")
    torch.testing.assert_close(resized, torch.full_like(resized, 0.3), rtol=0, atol=1e-6)


def test_nothing_is_changed_in_place(images):
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


def test_posterize_and_erase_equal_torchvision(images):
    bits = torch.arange(COUNT) % 8 + 1
    expected = [reference.posterize(x, b) for x, b in zip(images, bits.tolist(), strict=True)]
    torch.testing.assert_close(functional.posterize(images, bits), torch.stack(expected), rtol=0, atol=1e-7)
    boxes = random_boxes(torch.Generator().manual_seed(2))
    boxes[0] = torch.tensor([3, 4, 0, 7])
    value = torch.full((1, 1, 1), 0.25)
    expected = [reference.erase(x, *box, value) for x, box in zip(images, boxes.tolist(), strict=True)]
    assert torch.equal(functional.erase(images, boxes, 0.25), torch.stack(expected))


def test_turns_equal_torch(images):
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
def test_any_size_box_and_number_of_channels(seed):
    """Everything drawn at random, against torchvision image by image."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    count, height, width, channels = whole(1, 4), whole(2, 60), whole(2, 60), (1, 3, 2, 5)[seed % 4]
    x = torch.rand(count, channels, height, width, generator=generator)
    size, mode = whole(1, 70), ("bilinear", "bicubic")[seed % 2]
    boxes = []
    for _ in range(count):
        tall, wide = whole(1, height), whole(1, width)
        boxes.append([whole(0, height - tall), whole(0, width - wide), tall, wide])
    options = {"interpolation": InterpolationMode(mode), "antialias": True}
    expected = torch.stack(
        [reference.resized_crop(y, *box, [size, size], **options) for y, box in zip(x, boxes, strict=True)]
    )
    torch.testing.assert_close(functional.resized_crop(x, torch.tensor(boxes), size, mode), expected, rtol=0, atol=1e-4)
    taps = 2 * whole(0, min(height, width) - 1) + 1
    sigma = 0.1 + 3 * torch.rand(count, generator=generator)
    expected = torch.stack(
        [reference.gaussian_blur(y, [taps] * 2, [float(s)] * 2) for y, s in zip(x, sigma, strict=True)]
    )
    torch.testing.assert_close(functional.gaussian_blur(x, sigma, taps), expected, rtol=0, atol=1e-5)
    pixels = (255 * x).byte().contiguous(memory_format=(torch.channels_last, torch.contiguous_format)[seed % 2])
    expected = torch.stack(
        [reference.resized_crop(y, *box, [size, size], **options) for y, box in zip(pixels, boxes, strict=True)]
    )
    cropped = resample.resized_crop_bytes(pixels, torch.tensor(boxes), size, mode == "bicubic")
    assert (cropped.int() - expected.int()).abs().max() <= 1  # of 255


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: functional.adjust_contrast(x[0], torch.ones(4)), r"\(N, C, H, W\), got torch.float32 \(3, 8, 8\)"),
        (lambda x: functional.adjust_hue((x * 255).byte(), torch.ones(4)), "floats .* got torch.uint8"),
        (lambda x: functional.adjust_brightness(x, torch.ones(3)), r"one value per image, shape \(4,\), got \(3,\)"),
        (lambda x: functional.adjust_saturation(x[:, :2], torch.ones(4)), "1 or 3 channels"),
        (lambda x: functional.adjust_hue(x[:, :2], torch.ones(4)), "1 or 3 channels"),
        (lambda x: functional.to_grayscale(x[:, :2]), "1 or 3 channels"),
        (lambda x: functional.solarize(x, 128), r"\[0, 1\].*128"),
        (lambda x: functional.gaussian_blur(x, torch.ones(4), 4), "odd.*got 4"),
        (lambda x: functional.gaussian_blur(x, torch.ones(4), 17), "8 x 8 images, got 17"),
        (lambda x: functional.gaussian_blur(x, torch.ones(1), 3), "one value per image"),
        (lambda x: functional.normalize(x, [0.5, 0.5], [1.0]), "mean must have 1 or 3 numbers"),
        (lambda x: functional.normalize(x, [0.5], [0.0]), "std must be positive"),
        (lambda x: functional.horizontal_flip(x, torch.ones(1, dtype=torch.bool)), "mask must be"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]]), 4), r"boxes must be \(4, 4\)"),
        (lambda x: functional.resized_crop(x, torch.tensor([[1, 0, 8, 8]] * 4), 4), r"box \[1, 0, 8, 8\].*8 x 8"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 0, 8]] * 4), 4), r"box \[0, 0, 0, 8\]"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]] * 4), 0), "size must be at least 1"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]] * 4), 4, "nearest"), "'nearest'"),
        (lambda x: functional.vertical_flip(x, torch.ones(1, dtype=torch.bool)), "mask must be"),
        (lambda x: functional.quarter_turns(x, torch.ones(1)), "mask must be"),
        (lambda x: functional.quarter_turns(x[..., :4], torch.ones(4)), r"square images, got \(4, 3, 8, 4\)"),
        (lambda x: functional.rotate(x, torch.ones(1)), "one value per image"),
        (lambda x: functional.posterize(x, torch.ones(1)), "one value per image"),
        (lambda x: functional.erase(x, torch.tensor([[1, 0, 8, 8]] * 4)), r"box \[1, 0, 8, 8\].*8 x 8"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3, 8, 8))


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_crops_of_half_precision_images_keep_their_places(dtype, atol):
    """The pixels have few digits, the positions have not."""
    images = torch.rand(4, 3, 400, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    boxes = torch.tensor([[0, 0, 400, 500], [13, 301, 377, 199], [399, 499, 1, 1], [200, 100, 90, 301]])
    exact = functional.resized_crop(images.double(), boxes, 96)
    torch.testing.assert_close(functional.resized_crop(images, boxes, 96).double(), exact, rtol=0, atol=atol)


def test_a_blur_does_not_depend_on_the_other_images():
    images = torch.rand(8, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    sigma = torch.linspace(0.1, 2.0, 8)
    together = functional.gaussian_blur(images, sigma, 23)
    apart = [functional.gaussian_blur(x[None], s[None], 23) for x, s in zip(images, sigma, strict=True)]
    assert torch.equal(together, torch.cat(apart))
