"""ViewPipeline: order of operations, distribution and reproducibility of the views."""

import math
import pickle

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from ssl_lib.utils.warn_once import forget_warnings
from ssl_lib.views import ViewConfig, ViewPipeline, color, functional, presets
from ssl_lib.views.sampling import NUMBERS, RandomNumbers, draw_boxes, draw_stages

PLAIN = {"flip_p": 0.0, "jitter_p": 0.0, "grayscale_p": 0.0, "blur_p": 0.0}
WHOLE = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_images(count, channels=3, side=16, seed=0):
    return torch.randint(256, (count, channels, side, side), dtype=torch.uint8, generator=seeded(seed))


def pixels(**config):
    """Returns a pipeline with one view whose values are in [0, 1]."""
    return ViewPipeline([ViewConfig(**config)], [0.0], [1.0])


def test_view_without_random_operations_is_the_normalized_image():
    images = random_images(4)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    for interpolation in ("bilinear", "bicubic"):
        config = ViewConfig(size=16, interpolation=interpolation, **PLAIN, **WHOLE)
        (view,) = ViewPipeline([config], mean, std)(images).large
        torch.testing.assert_close(view, reference.normalize(images / 255, mean, std), rtol=0, atol=1e-5)


def test_large_and_small_views_keep_their_order():
    configs = [
        ViewConfig(size=8, **PLAIN),
        ViewConfig(count=2, size=12, **PLAIN),
        ViewConfig(size=6, **PLAIN),
        ViewConfig(size=12, **PLAIN),
    ]
    pipeline = ViewPipeline(configs, [0.5], [0.5])
    assert [view.size for view in pipeline.views] == [8, 12, 12, 6, 12]
    assert all(view.count == 1 for view in pipeline.views)
    views = pipeline(random_images(3))
    assert pipeline.size == 12
    assert [view.shape[-1] for view in views.large] == [12, 12, 12]
    assert [view.shape[-1] for view in views.small] == [8, 6]
    assert views.labels is None and views.indices is None


@pytest.mark.parametrize("channels", [1, 3])
def test_same_seed_gives_same_views_and_input_is_unchanged(channels):
    pipeline = ViewPipeline(presets.dino(size=16, small_size=8, small_count=2), [0.5], [0.25])
    images = random_images(8, channels)
    before = images.clone()
    first, again, other = (pipeline(images, seeded(seed)) for seed in (1, 1, 2))
    for a, b, c in zip(first.large + first.small, again.large + again.small, other.large + other.small, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert torch.equal(images, before)
    torch.manual_seed(3)
    default = pipeline(images).large[0]
    torch.manual_seed(3)
    assert torch.equal(pipeline(images).large[0], default)
    assert torch.equal(pickle.loads(pickle.dumps(pipeline))(images, seeded(1)).large[0], first.large[0])


def test_every_image_and_view_has_its_own_parameters():
    images = random_images(1).expand(32, -1, -1, -1)
    views = ViewPipeline(presets.simclr(16), [0.5], [0.25])(images, seeded(0))
    assert len(torch.cat(views.large).flatten(1).unique(dim=0)) == 64


def test_bicubic_overshoot_is_clamped():
    checkers = (torch.arange(16).view(1, -1) + torch.arange(16).view(-1, 1)) // 4 % 2 * 255
    images = checkers.to(torch.uint8).expand(4, 3, 16, 16)
    boxes = torch.tensor([[0, 0, 16, 16]] * 4)
    assert functional.resized_crop(images / 255, boxes, 40, "bicubic").max() > 1.01
    (view,) = pixels(size=40, interpolation="bicubic", **PLAIN, **WHOLE)(images).large
    assert view.min() == 0 and view.max() == 1


def test_solarize_inverts_values_from_128():
    images = torch.tensor([0, 1, 127, 128, 255], dtype=torch.uint8).view(5, 1, 1, 1).expand(-1, 3, 4, 4)
    (view,) = pixels(size=4, solarize_p=1.0, **PLAIN, **WHOLE)(images).large
    expected = torch.tensor([0, 1, 127, 127, 0]) / 255
    torch.testing.assert_close(view[:, 0, 0, 0], expected, rtol=0, atol=1e-6)


def test_flip_and_grayscale_with_probability_one():
    images = random_images(4)
    before = images.clone()
    for batches in (images, (images,)):
        (view,) = pixels(size=16, **{**PLAIN, "flip_p": 1.0, "grayscale_p": 1.0}, **WHOLE)(batches).large
        expected = reference.rgb_to_grayscale(images.flip(-1) / 255, 3)
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)
        assert torch.equal(images, before)


def test_gray_images_skip_color_operations():
    images = random_images(16, channels=1)
    colors = {**PLAIN, "jitter": (0.0, 0.0, 0.8, 0.2), "jitter_p": 1.0, "grayscale_p": 1.0}
    (view,) = pixels(size=16, **colors, **WHOLE)(images).large
    torch.testing.assert_close(view, images / 255, rtol=0, atol=1e-6)
    numbers = RandomNumbers(torch.rand(16, NUMBERS, generator=seeded(0), dtype=torch.float64))
    stages = draw_stages(ViewConfig(jitter_p=1.0), numbers, 1)
    assert stages[1].operations == stages[2].operations == (color.brightness_, color.contrast_)


def test_color_operations_are_left_out_for_images_with_five_channels():
    images = random_images(4, channels=5)
    without = {"jitter": (0.4, 0.4, 0.0, 0.0), "grayscale_p": 0.0}
    (expected,) = pixels(size=16, **without)(images, torch.Generator().manual_seed(0)).large
    assert expected.shape == (4, 5, 16, 16)
    for colors in ({"grayscale_p": 0.9}, {"jitter": (0.4, 0.4, 0.0, 0.1)}, {"jitter": (0.4, 0.4, 0.2, 0.0)}):
        forget_warnings()
        with pytest.warns(UserWarning, match=r"5 channels, so saturation, hue and grayscale are left out"):
            (view,) = pixels(size=16, **{**without, **colors})(images, torch.Generator().manual_seed(0)).large
        assert torch.equal(view, expected)


@pytest.mark.parametrize("side", [24, 48])
def test_float_images_give_the_views_of_their_bytes_up_to_rounding(side):
    """Views of 16-bit data start from floats; on 8-bit values they differ from the views of bytes by rounding only."""
    images = torch.randint(256, (6, 3, side, side), dtype=torch.uint8)
    pipeline = ViewPipeline([ViewConfig(count=2, size=20, jitter_p=0.0, grayscale_p=0.0, blur_p=0.5)], [0.5], [0.5])
    views = [pipeline(batch, torch.Generator().manual_seed(1)).large for batch in (images, images.float() / 255)]
    crops = [pipeline.crop(image, torch.Generator().manual_seed(2)) for image in (images[0], images[0].float() / 255)]
    for byte, real in zip(*views, strict=True):
        assert (byte - real).abs().max() < 1.1 / 255 / 0.5  # the bytes are rounded after each of two passes
    for byte, real in zip(*crops, strict=True):
        assert real.dtype == torch.float32 and (byte.float() / 255 - real).abs().max() < 1.1 / 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(33, 48), (24, 32)])
def test_crop_uses_the_drawn_box(height, width, interpolation):
    config = ViewConfig(count=2, size=20, interpolation=interpolation, **PLAIN)  # never flipped
    waves = (torch.arange(height).view(-1, 1) / 5).sin() * (
        torch.arange(width) / 7
    ).cos()  # smooth, because it is rounded twice
    image = (waves * torch.tensor([90.0, 60.0, 30.0]).view(3, 1, 1) + 128).to(torch.uint8)
    crops = ViewPipeline([config], [0.5], [0.5]).crop(image, seeded(4))
    rows = torch.rand(1, 2, NUMBERS, generator=seeded(4), dtype=torch.float64)
    for crop, row in zip(crops, rows.unbind(1), strict=True):
        boxes = draw_boxes(RandomNumbers(row), height, width, config.crop_scale, config.crop_ratio)
        exact = functional.resized_crop(image[None] / 255, boxes, 20, interpolation).clamp(0, 1)[0]
        assert crop.dtype == torch.uint8
        assert (crop - 255 * exact).abs().max() < 1.5
    views = ViewPipeline([config], [0.0], [1.0])(image[None], seeded(4)).large
    for view, crop in zip(views, crops, strict=True):  # small images in a batch are cropped without rounding
        torch.testing.assert_close(255 * view[0], crop.float(), rtol=0, atol=1e-3 if width > 32 else 1.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_in_parts_gives_the_same_views(channels):
    images = random_images(11, channels, side=24)
    pipeline = ViewPipeline(presets.dino(size=20, small_size=8, small_count=2), [0.5], [0.25])
    whole = pipeline(images, seeded(0))
    generator = seeded(0)
    parts = [pipeline(part, generator) for part in images.split([1, 7, 3])]
    for index, view in enumerate(whole.large + whole.small):
        joined = torch.cat([(part.large + part.small)[index] for part in parts])
        assert torch.equal(joined, view)


def test_erased_boxes_have_the_mean_color_and_other_pixels_are_unchanged():
    images = random_images(64)
    kept, erased = (
        ViewPipeline([ViewConfig(size=16, erase_p=p)], [0.4], [0.2])(images, seeded(0)).large[0] for p in (0.0, 0.5)
    )
    zero = (erased == 0).all(1)  # (N, H, W)
    assert 16 < zero.flatten(1).any(1).sum() < 48
    assert torch.equal(erased.masked_fill(zero.unsqueeze(1), 0), kept.masked_fill(zero.unsqueeze(1), 0))


def test_single_image_crops_have_the_distribution_of_batch_crops(two_sample_distance):
    count = 1_500
    ramp = torch.arange(0, 240, 8, dtype=torch.uint8)
    image = torch.stack((ramp.expand(30, 30), ramp.expand(30, 30).T, torch.zeros(30, 30, dtype=torch.uint8)))
    pipeline = pixels(size=4, **{**PLAIN, "flip_p": 0.5})
    (batched,) = pipeline(image.expand(count, -1, -1, -1), seeded(0)).large
    generator = seeded(1)
    crops = [pipeline.crop(image, generator) for _ in range(count)]
    batches = tuple(torch.stack(view) for view in zip(*crops, strict=True))
    (single,) = pipeline(batches, generator).large
    assert single.shape == batched.shape
    for channel, row, column in [(0, 0, 0), (0, 2, 3), (1, 0, 0), (1, 3, 2)]:
        a, b = (255 * view[:, channel, row, column] for view in (batched, single))
        assert two_sample_distance(a.round(), b.round()) < 1.95 * math.sqrt(2 / count)


def test_autocast_does_not_change_the_views():
    pipeline = ViewPipeline(presets.byol(16), [0.5], [0.25])
    images = random_images(6)
    plain = pipeline(images, seeded(0)).large
    with torch.autocast("cpu", torch.bfloat16):
        cast = pipeline(images, seeded(0)).large
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_views_without_synchronization():
    pipeline = ViewPipeline(presets.dino(size=24, small_size=12), [0.5], [0.25])
    images = random_images(16, side=32)
    expected = pipeline(images, seeded(0))
    on_device = images.cuda()
    pipeline(on_device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = pipeline(on_device, seeded(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(actual.large + actual.small, expected.large + expected.small, strict=True):
        # A rounding error can move a few pixels across the solarize threshold.
        assert ((a.cpu() - b).abs() < 1e-3).double().mean() > 0.999


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 16, 16).double(), "images .* uint8 or float32 in .* got torch.float64"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), r"\(N, C, H, W\).*\(3, 16, 16\)"),
        ((), "one batch per view"),
        ((torch.zeros(2, 3, 16, 16, dtype=torch.uint8),), r"one batch per view.*\(2, 3, 8, 8\)"),
        ((torch.zeros(2, 3, 16, 16, dtype=torch.uint8),) * 2, r"one batch per view.*\(2, 3, 8, 8\)"),
    ],
)
def test_wrong_images_raise_a_clear_error(images, message):
    pipeline = ViewPipeline([ViewConfig(size=16), ViewConfig(size=8)], [0.5], [0.5])
    with pytest.raises(ValueError, match=message):
        pipeline(images)


def test_wrong_pipeline_arguments_raise_a_clear_error():
    with pytest.raises(ValueError, match="at least one ViewConfig"):
        ViewPipeline([], [0.5], [0.5])
    with pytest.raises(ValueError, match=r"std positive; got \[0.5\] and \[0.0\]"):
        ViewPipeline([ViewConfig()], [0.5], [0.0])
    with pytest.raises(ValueError, match="divide the statistics of uint8 pixels by 255"):
        ViewPipeline([ViewConfig()], [127.0], [64.0])
    for views in ("simclr", presets.simclr, ["simclr"]):
        with pytest.raises(TypeError, match="expects a list of ViewConfig"):
            ViewPipeline(views, [0.5], [0.5])
    with pytest.raises(ValueError, match="mean and std need"):
        ViewPipeline([ViewConfig()], [], [1.0])
    with pytest.raises(ValueError, match="mean must have 1 or 3 values"):
        ViewPipeline([ViewConfig(size=8)], [0.5, 0.5], [0.5])(random_images(2))
    with pytest.raises(ValueError, match=r"one image \(C, H, W\), uint8 or float32"):
        ViewPipeline([ViewConfig(size=8)], [0.5], [0.5]).crop(random_images(2))


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_views_equal_uncompiled_views():
    plain, compiled = (ViewPipeline(presets.simclr(24), [0.5], [0.25]) for _ in range(2))
    compiled.compile()
    images = random_images(64, side=32).cuda()
    for a, b in zip(compiled(images, seeded(0)).large, plain(images, seeded(0)).large, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("value", [255.0, -0.1, float("nan")])
def test_float_images_outside_of_the_unit_range_are_refused(value):
    pipeline = ViewPipeline([ViewConfig(size=8)], (0.5,), (0.25,))
    images = torch.rand(2, 1, 16, 16)
    images[1, 0, 3, 3] = value
    for call in (lambda: pipeline(images), lambda: pipeline.crop(images[1])):
        with pytest.raises(ValueError, match=r"float images must be in \[0, 1\]"):
            call()
