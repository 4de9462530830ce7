"""Batched image operations with one parameter per image; each equals torchvision's operation, image by image.

Images are floats in [0, 1] of shape (N, C, H, W) on any device. The dtype is kept. No operation works in place.
"""

from __future__ import annotations

from ssl_lib.views.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    normalize,
    posterize,
    solarize,
    to_grayscale,
)
from ssl_lib.views.geometry import erase, horizontal_flip, quarter_turns, rotate, vertical_flip
from ssl_lib.views.resample import gaussian_blur, resized_crop

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "erase",
    "gaussian_blur",
    "horizontal_flip",
    "normalize",
    "posterize",
    "quarter_turns",
    "resized_crop",
    "rotate",
    "solarize",
    "to_grayscale",
    "vertical_flip",
]
