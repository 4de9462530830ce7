"""Float images from data set to views: equal to uint8 images but for rounding, with all of their 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import Loader, ViewPipeline
from ssl_lib.data import ArrayData, FolderData
from ssl_lib.registry import PRESETS
from ssl_lib.views import ViewConfig, presets

PLAIN = {"jitter_p": 0, "grayscale_p": 0, "blur_p": 0}


def both(side):
    """uint8 images and the same images as floats; smooth, so that interpolation cannot amplify rounding."""
    ramp = np.linspace(0, 255, side)
    colors = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, 255 - (ramp[:, None] + ramp) / 2], -1)
    pixels = np.stack([colors * (4 + index) / 12 for index in range(8)]).astype(np.uint8)
    return ArrayData(pixels), ArrayData((pixels / 255).astype(np.float32))


@pytest.mark.parametrize("side", [20, 50])  # below 32 pixels, uint8 images are cropped as floats, too
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_views_of_float_images_equal_views_of_bytes(side, interpolation):
    """The crops of large uint8 images are rounded twice, after the rows and after the columns."""
    view = ViewConfig(size=16, count=2, interpolation=interpolation, **PLAIN)
    pipeline = ViewPipeline([view], (0.5,) * 3, (0.25,) * 3)
    loaders = [Loader(data, pipeline, 8) for data in both(side)]
    views = [pipeline(next(loader.epoch(0))) for loader in loaders]
    assert torch.equal(views[0].indices, views[1].indices)
    for bytes_, floats in zip(views[0].large, views[1].large, strict=True):
        assert floats.dtype == torch.float32
        assert ((bytes_ - floats) * 0.25).abs().max() <= 1.5 / 255


@pytest.mark.filterwarnings("ignore:images have . channels, so saturation:UserWarning")
@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_shapes_and_blank_views_of_every_preset(name, channels):
    configs = PRESETS[name]()
    pipeline = ViewPipeline(configs, (0.5,), (0.25,))
    shapes = pipeline.shapes(channels)
    assert shapes == tuple((channels, c.size, c.size) for c in configs for _ in range(c.count))
    before = torch.random.get_rng_state()
    views = pipeline.blank(2, channels)
    assert torch.equal(before, torch.random.get_rng_state())
    found = [tuple(view.shape) for view in (*views.large, *views.small)]
    assert sorted(found) == sorted((2, *shape) for shape in shapes) and pipeline.partners == 0
    again = pipeline.blank(2, channels)
    assert all(torch.equal(*pair) for pair in zip(views.large, again.large, strict=True))


def test_loader_refuses_a_pipeline_that_needs_partners():
    pipeline = ViewPipeline([ViewConfig(size=8)], (0.5,), (0.25,))
    pipeline.partners = 2
    with pytest.raises(ValueError, match="ViewPipeline mixes each item with 2 others, but Loader reads one alone"):
        Loader(both(20)[0], pipeline, 2)


def test_crops_of_float_images_stay_in_the_unit_interval():
    pipeline = ViewPipeline([ViewConfig(size=8, interpolation="bicubic")], (0.5,), (0.25,))
    (crop,) = pipeline.crop(torch.rand(1, 30, 40).round(), torch.Generator().manual_seed(0))
    assert crop.dtype == torch.float32 and crop.min() >= 0 and crop.max() <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_sixteen_bits_reach_the_views(tmp_path, workers):
    """Neighboring values differ by less than one step of 8 bits."""
    values = (np.arange(16 * 16).reshape(16, 16) + 30_000).astype(np.uint16)
    for index in range(4):
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    data = FolderData(tmp_path, 1, mean=(0.0,), std=(1.0,), depth=16)
    view = ViewConfig(size=16, crop_scale=(1, 1), crop_ratio=(1, 1), flip_p=0, **PLAIN)
    pipeline = ViewPipeline([view], data.mean, data.std)
    views = pipeline(next(Loader(data, pipeline, 4, workers=workers).epoch(0)))
    np.testing.assert_allclose(views.large[0][:, 0].numpy() * 65535, np.stack([values] * 4), atol=0.01)


def test_original_images_are_unchanged():
    data = both(20)[1]
    images = data.gather(torch.arange(8))
    kept = images.clone()
    ViewPipeline(presets.simclr(size=16), (0.5,) * 3, (0.25,) * 3)(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, kept)
    crops = [image[None].expand(3, -1, -1, -1).contiguous() for image in images[:2, :, :16, :16]]
    copies = [crop.clone() for crop in crops]
    ViewPipeline(presets.simclr(size=16), (0.5,) * 3, (0.25,) * 3)(crops, torch.Generator().manual_seed(0))
    assert all(torch.equal(*pair) for pair in zip(crops, copies, strict=True))
