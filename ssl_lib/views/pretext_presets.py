"""View presets of pretext tasks, a part of `ssl_lib.views.presets`."""

from __future__ import annotations

from dataclasses import replace

from ssl_lib.registry import PRESETS
from ssl_lib.views.config import ViewConfig

__all__ = ["colorization", "jigsaw", "relative_location", "rotation"]


@PRESETS.register("rotation")
def rotation(size: int = 224) -> list[ViewConfig]:
    """Rotation prediction: one view, cropped and flipped, without color changes (arXiv:1803.07728, section 3)."""
    return [ViewConfig(size=size, jitter_p=0.0, grayscale_p=0.0, blur_p=0.0)]


@PRESETS.register("jigsaw")
def jigsaw(size: int = 225) -> list[ViewConfig]:
    """Jigsaw puzzles: one view, cropped and flipped, gray for 30 % of the images (arXiv:1603.09246, section 4.2)."""
    return [replace(rotation(size)[0], grayscale_p=0.3)]


@PRESETS.register("relative_location")
def relative_location(size: int = 432) -> list[ViewConfig]:
    """Relative location: 3 x 3 cells of 144 of 150,000 to 450,000 pixels (cdoersch/deepcontext/train.py), unchanged."""
    return [replace(rotation(size)[0], crop_scale=(0.41, 1.0), crop_ratio=(1.0, 1.0), flip_p=0.0)]


@PRESETS.register("colorization")
def colorization(size: int = 176) -> list[ViewConfig]:
    """Colorization: 176 of 256 pixels, flipped (arXiv:1603.08511; models/colorization_train_val_v2.prototxt)."""
    return [replace(rotation(size)[0], crop_scale=(0.47, 0.47), crop_ratio=(1.0, 1.0))]
