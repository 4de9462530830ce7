"""Random parameters: their distribution, and the operations that they select, compared with torchvision."""

import itertools
import math

import pytest
import torch
from torchvision.transforms import RandomErasing, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from ssl_lib.views import ViewConfig, color
from ssl_lib.views.random_apply import run_stages
from ssl_lib.views.sampling import NUMBERS, RandomNumbers, draw_boxes, draw_erased, draw_stages, draw_turns

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
    lambda image, _: reference.posterize(image, 4),
)


def replay(stage, images, operations):
    """Applies one stage with torchvision operations, image by image."""
    operations = [*operations, lambda image, _: image]
    choices = zip(images, stage.choice, stage.value, strict=True)
    return torch.stack([operations[choice](image, value) for image, choice, value in choices])


GEOMETRY = (
    lambda image, _: image.flip(-1),
    lambda image, _: image.flip(-2),
    None,
    lambda image, angle: reference.rotate(image, angle, reference.InterpolationMode.BILINEAR),
)
TURNS = [lambda image, _, quarters=quarters: image.rot90(quarters, (-2, -1)) for quarters in (1, 2, 3)]


def numbers(count, seed=0):
    return RandomNumbers(torch.rand(count, NUMBERS, generator=seeded(seed), dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
def test_flips_and_rotations_equal_torchvision(seed):
    chances = {"vertical_flip_p": 0.5, "turn_p": 0.8, "rotate_p": 0.5, "rotate_degrees": 70.0}
    config = ViewConfig(size=20, jitter_p=0.0, grayscale_p=0.0, blur_p=0.0, **chances)
    images = torch.rand(32, 3, 20, 20, generator=seeded(seed))
    drawn = numbers(32, seed)
    stages = [*draw_turns(config, drawn), *draw_stages(config, drawn, 3)]
    expected = images
    for stage, operation in zip(stages, GEOMETRY, strict=False):
        expected = replay(stage, expected, TURNS if operation is None else [operation])
    torch.testing.assert_close(run_stages(stages, images.clone()), expected, rtol=0, atol=1e-5)
    assert all(stage.empty for stage in stages[4:])
    pixels = (255 * images).byte()
    moved = run_stages(stages[:3], pixels.clone()).float()  # flips and quarter turns accept uint8
    torch.testing.assert_close(moved, run_stages(stages[:3], pixels.float()), rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_color_stages_equal_torchvision(seed):
    colors = {"jitter": (0.8, 0.8, 0.8, 0.4), "jitter_p": 0.7, "solarize_p": 0.3, "posterize_p": 0.3}
    config = ViewConfig(size=20, flip_p=0.0, blur_kernel=5, **colors)
    images = torch.rand(32, 3, 20, 20, generator=seeded(seed))
    _, *jitter, grayscale, blur, solarize, posterize = draw_stages(config, numbers(32, seed), 3)
    expected = images
    for stage in jitter:
        expected = replay(stage, expected, [JITTER[operation] for operation in stage.operations])
    for stage, operation in zip((grayscale, blur), LAST, strict=False):
        expected = replay(stage, expected, [operation])
    actual = run_stages([*jitter, grayscale, blur], images.clone())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    # Tested separately, because an earlier rounding error may move a pixel across the threshold.
    assert torch.equal(run_stages([solarize], images.clone()), replay(solarize, images, [LAST[2]]))
    assert torch.equal(run_stages([posterize], images.clone()), replay(posterize, images, [LAST[3]]))


@pytest.mark.parametrize("stance", ["force_eager", pytest.param("default", marks=pytest.mark.slow)])
def test_fused_stages_equal_grouped_stages(stance):
    config = ViewConfig(size=20, jitter_p=0.7, solarize_p=0.3, posterize_p=0.3)
    images = torch.rand(32, 3, 20, 20, generator=seeded(5))
    stages = draw_stages(config, numbers(32, 5), 3)
    smooth, sharp = stages[:-2], stages[-2:]  # separate: a rounding error may move a pixel across a threshold
    with torch.compiler.set_stance(stance):
        fused, fused_sharp = (run_stages(part, images.clone(), compiled=True) for part in (smooth, sharp))
    torch.testing.assert_close(fused, run_stages(smooth, images.clone()), rtol=0, atol=1e-5)
    assert torch.equal(fused_sharp, run_stages(sharp, images.clone()))


def test_settings_of_one_operation_do_not_change_the_draws_of_others():
    plain, changed = ViewConfig(jitter_p=1.0), ViewConfig(jitter_p=1.0, flip_p=1.0, turn_p=1.0, rotate_p=0.5)
    colors = []
    for config in (plain, changed):
        drawn = numbers(64)
        draw_turns(config, drawn)
        colors.append(draw_stages(config, drawn, 3)[1:])  # all but the rotation
    for a, b in zip(*colors, strict=True):
        assert a.choice == b.choice and a.value == b.value
    assert torch.equal(draw_erased(numbers(64), plain), torch.zeros(64, 4).long())


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_jitter_orders_are_uniform():
    count = 24_000
    stages = draw_stages(ViewConfig(jitter_p=1.0), numbers(count), 3)[1:5]
    orders = list(zip(*(stage.choice for stage in stages), strict=True))
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == count
    chi_square = sum((n - count / 24) ** 2 / (count / 24) for n in counts)
    assert chi_square < 49.7  # 0.999 quantile at 23 degrees of freedom


def test_jitter_factors_are_uniform_in_the_ranges_of_torchvision(two_sample_distance):
    config = ViewConfig(jitter=(0.4, 1.5, 0.2, 0.1), jitter_p=0.8)
    stages = draw_stages(config, numbers(8_000), 3)[1:5]
    ranges = {
        color.brightness_: (0.6, 1.4),
        color.contrast_: (0.0, 2.5),
        color.saturation_: (0.8, 1.2),
        color.hue_: (-0.1, 0.1),
    }
    for number, operation in enumerate(stages[0].operations):
        drawn = [pair for stage in stages for pair in zip(stage.choice, stage.value, strict=True)]
        values = torch.tensor([value for choice, value in drawn if choice == number], dtype=torch.float64)
        assert len(values) == sum(choice < 4 for choice in stages[0].choice)  # each operation once per jittered image
        assert abs(len(values) / 8_000 - 0.8) < 0.02
        low, high = ranges[operation]
        expected = torch.linspace(low, high, 8_000, dtype=values.dtype)
        assert values.min() >= low and values.max() <= high
        assert two_sample_distance(values, expected) < 0.03


def test_chance_is_true_with_the_given_probability():
    for probability in (0.0, 0.1, 0.5, 1.0):
        frequency = numbers(20_000).chance(probability).double().mean()
        assert abs(frequency - probability) <= 4 * math.sqrt(probability * (1 - probability) / 20_000)


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (40, 60, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (96, 96, (0.05, 0.4), (3 / 4, 4 / 3)),
        (30, 90, (0.7, 1.0), (3 / 4, 4 / 3)),  # most candidates fail, so the central box is common
        (90, 30, (0.4, 1.0), (1.0, 2.0)),
    ],
)
def test_crop_boxes_have_the_distribution_of_torchvision(height, width, scale, ratio, two_sample_distance):
    count = 3_000
    ours = draw_boxes(numbers(count), height, width, scale, ratio)
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor([height, width])).all()
    critical = 1.95 * math.sqrt(2 / count)  # significance level 0.001
    for describe in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3]):
        assert two_sample_distance(describe(ours).double(), describe(theirs).double()) < critical


def test_erased_boxes_have_the_distribution_of_torchvision(two_sample_distance):
    count, scale, ratio = 3_000, (0.02, 0.33), (0.3, 3.3)
    config = ViewConfig(size=32, erase_p=0.7)
    ours = draw_erased(numbers(count), config)
    ours = ours[ours[:, 2] > 0]
    assert abs(len(ours) / count - 0.7) < 4 * math.sqrt(0.7 * 0.3 / count)
    torch.manual_seed(0)
    image = torch.empty(1, 32, 32)
    theirs = [RandomErasing.get_params(image, scale, ratio, value=[0.0]) for _ in range(len(ours))]
    theirs = torch.tensor([box[:4] for box in theirs])
    critical = 1.95 * math.sqrt(2 / len(ours))
    for describe in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2], lambda b: b[:, 3]):
        assert two_sample_distance(describe(ours).double(), describe(theirs).double()) < critical


def test_turns_and_rotation_angles_are_uniform(two_sample_distance):
    config, drawn = ViewConfig(turn_p=0.9, rotate_p=1.0, rotate_degrees=30.0), numbers(20_000)
    turn, rotate = draw_turns(config, drawn)[2], draw_stages(config, drawn, 3)[0]
    frequencies = torch.tensor(turn.choice).bincount() / 20_000
    torch.testing.assert_close(frequencies, torch.tensor([0.3, 0.3, 0.3, 0.1]), rtol=0, atol=0.015)
    angles = torch.tensor(rotate.value, dtype=torch.float64)
    assert two_sample_distance(angles, torch.linspace(-30, 30, 20_000, dtype=torch.float64)) < 0.02


def test_central_box_equals_torchvision():
    scale, ratio = (1.0, 1.0), (3 / 4, 4 / 3)
    for height, width in [(10, 100), (100, 10), (7, 31), (31, 7)]:
        expected = RandomResizedCrop.get_params(torch.empty(1, height, width), scale, ratio)
        assert draw_boxes(numbers(2), height, width, scale, ratio).tolist() == [list(expected)] * 2
