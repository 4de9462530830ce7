"""The distribution of the random parameters, and the operations applied with them."""

import itertools
import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from ssl_lib.views import ViewConfig, color
from ssl_lib.views.sampling import draw_boxes, draw_mask, draw_stages, run_stages

JITTER = {
    color.brightness_: reference.adjust_brightness,
    color.contrast_: reference.adjust_contrast,
    color.saturation_: reference.adjust_saturation,
    color.hue_: reference.adjust_hue,
}
LAST = (
    lambda image, _: reference.rgb_to_grayscale(image, 3),
    lambda image, sigma: reference.gaussian_blur(image, [5, 5], [sigma, sigma]),
    lambda image, _: reference.solarize(image, 0.5),
)


def replay(stage, images, operations):
    """One stage by torchvision, image by image."""
    operations = [*operations, lambda image, _: image]
    choices = zip(images, stage.choice.tolist(), stage.value.tolist(), strict=True)
    return torch.stack([operations[choice](image, value) for image, choice, value in choices])


@pytest.mark.parametrize("seed", range(3))
def test_stages_equal_torchvision_image_by_image(seed):
    config = ViewConfig(size=20, jitter=(0.8, 0.8, 0.8, 0.4), jitter_p=0.7, solarize_p=0.3, blur_kernel=5)
    images = torch.rand(32, 3, 20, 20, generator=seeded(seed))
    *jitter, grayscale, blur, solarize = draw_stages(config, 32, 3, seeded(seed))
    expected = images
    for stage in jitter:
        expected = replay(stage, expected, [JITTER[operation] for operation in stage.operations])
    for stage, operation in zip((grayscale, blur), LAST, strict=False):
        expected = replay(stage, expected, [operation])
    actual = run_stages([*jitter, grayscale, blur], images.clone())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    # Apart, as a rounding error before it may carry a pixel over the threshold.
    assert torch.equal(run_stages([solarize], images.clone()), replay(solarize, images, LAST[2:]))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_every_jitter_order_is_equally_likely():
    count = 24_000
    stages = draw_stages(ViewConfig(jitter_p=1.0), count, 3, seeded(0))[:4]
    orders = torch.stack([stage.choice for stage in stages], dim=1).tolist()
    found = [orders.count(list(order)) for order in itertools.permutations(range(4))]
    assert sum(found) == count
    chi_square = sum((n - count / 24) ** 2 / (count / 24) for n in found)
    assert chi_square < 49.7  # 0.999 quantile at 23 degrees of freedom


def test_jitter_factors_have_torchvisions_ranges(two_sample_distance):
    config = ViewConfig(jitter=(0.4, 1.5, 0.2, 0.1), jitter_p=0.8)
    stages = draw_stages(config, 8_000, 3, seeded(0))[:4]
    ranges = {
        color.brightness_: (0.6, 1.4),
        color.contrast_: (0.0, 2.5),
        color.saturation_: (0.8, 1.2),
        color.hue_: (-0.1, 0.1),
    }
    for number, operation in enumerate(stages[0].operations):
        values = torch.cat([stage.value[stage.choice == number] for stage in stages])
        assert len(values) == int((stages[0].choice < 4).sum())  # each operation once per jittered image
        assert abs(len(values) / 8_000 - 0.8) < 0.02
        low, high = ranges[operation]
        expected = torch.linspace(low, high, 8_000, dtype=values.dtype)
        assert values.min() >= low and values.max() <= high
        assert two_sample_distance(values, expected) < 0.03


def test_probabilities():
    for probability in (0.0, 0.1, 0.5, 1.0):
        share = draw_mask(20_000, probability, seeded(0)).double().mean()
        assert abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / 20_000)


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (40, 60, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (96, 96, (0.05, 0.4), (3 / 4, 4 / 3)),
        (30, 90, (0.7, 1.0), (3 / 4, 4 / 3)),  # most tries fail, so the central box is common
        (90, 30, (0.4, 1.0), (1.0, 2.0)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(height, width, scale, ratio, two_sample_distance):
    count = 3_000
    ours = draw_boxes(count, height, width, scale, ratio, seeded(0))
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor([height, width])).all()
    critical = 1.95 * math.sqrt(2 / count)  # at the level 0.001
    for describe in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3]):
        assert two_sample_distance(describe(ours).double(), describe(theirs).double()) < critical


def test_the_central_box_equals_torchvisions():
    scale, ratio = (1.0, 1.0), (3 / 4, 4 / 3)
    for height, width in [(10, 100), (100, 10), (7, 31), (31, 7)]:
        expected = RandomResizedCrop.get_params(torch.empty(1, height, width), scale, ratio)
        assert draw_boxes(2, height, width, scale, ratio).tolist() == [list(expected)] * 2
