"""Error messages of the batched operations for wrong arguments."""

import pytest
import torch

from ssl_lib.views import functional


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
        (lambda x: functional.normalize(x, [0.5, 0.5], [1.0]), "mean must have 1 or 3 values"),
        (lambda x: functional.normalize(x, [0.5], [0.0]), "std must be positive"),
        (lambda x: functional.horizontal_flip(x, torch.ones(1, dtype=torch.bool)), "one value per image"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]]), 4), r"boxes must have shape \(4, 4\)"),
        (lambda x: functional.resized_crop(x, torch.tensor([[1, 0, 8, 8]] * 4), 4), r"box \[1, 0, 8, 8\].*8 x 8"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 0, 8]] * 4), 4), r"box \[0, 0, 0, 8\]"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]] * 4), 0), "size must be at least 1"),
        (lambda x: functional.resized_crop(x, torch.tensor([[0, 0, 8, 8]] * 4), 4, "nearest"), "'nearest'"),
        (lambda x: functional.vertical_flip(x, torch.ones(1, dtype=torch.bool)), "one value per image"),
        (lambda x: functional.quarter_turns(x, torch.ones(1)), "one value per image"),
        (lambda x: functional.quarter_turns(x[..., :4], torch.ones(4)), r"square images, got \(4, 3, 8, 4\)"),
        (lambda x: functional.rotate(x, torch.ones(1)), "one value per image"),
        (lambda x: functional.posterize(x, torch.ones(1)), "one value per image"),
        (lambda x: functional.erase(x, torch.tensor([[1, 0, 8, 8]] * 4)), r"box \[1, 0, 8, 8\].*8 x 8"),
    ],
)
def test_wrong_argument_raises_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3, 8, 8))
