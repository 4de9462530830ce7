"""Configuration of one augmented view: crop, flips, color jitter, blur and erasing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = ["ViewConfig"]


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How to make one view of an image: crop and resize, then the other operations in the order of the attributes.

    The defaults are MoCo v2's (moco/main_moco.py), except for the crop, which has torchvision's RandomResizedCrop
    defaults. Every probability is per image. Lists are converted to tuples.

    Attributes:
        count: Number of views to make with these settings.
        size: Side of the view in pixels.
        crop_scale: Smallest and largest crop area as a fraction of the image area, in (0, 1].
        crop_ratio: Smallest and largest width / height of the crop.
        interpolation: Filter of the antialiased resize. The overshoot of "bicubic" is clamped to [0, 1].
        flip_p: Probability of a horizontal flip.
        vertical_flip_p: Probability of a vertical flip, for images without a fixed orientation, such as aerial images.
        turn_p: Probability of a rotation by 90, 180 or 270 degrees, chosen uniformly.
        rotate_p: Probability of a rotation by any angle about the center. The corners become black.
        rotate_degrees: Largest rotation angle in either direction, in [0, 180].
        jitter: Strengths s of brightness, contrast and saturation (factors are uniform in [max(0, 1 - s), 1 + s]) and
            of hue (uniform in [-s, s] turns, at most 0.5). The four are applied in random order.
        jitter_p: Probability of color jitter.
        grayscale_p: Probability of conversion to grayscale.
        blur_p: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels.
        solarize_p: Probability of inverting all pixels at or above `solarize_threshold`.
        solarize_threshold: In [0, 1]; 0.5 is 128 of 255.
        blur_kernel: Kernel size of the blur in pixels, odd. None is about a tenth of `size` and at least 3; 23 at 224.
        posterize_p: Probability of reducing each value to `posterize_bits` bits.
        posterize_bits: In [1, 8].
        erase_p: Probability of erasing a box (RandomErasing). The box is filled with the mean color.
        erase_scale: Smallest and largest area of the box as a fraction of the view area, in (0, 1].
        erase_ratio: Smallest and largest height / width of the box.

    Raises:
        ValueError: A value is out of range. The message names the attribute.
    """

    count: int = 1
    size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip_p: float = 0.5
    vertical_flip_p: float = 0.0
    turn_p: float = 0.0
    rotate_p: float = 0.0
    rotate_degrees: float = 180.0
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grayscale_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    solarize_threshold: float = 0.5
    blur_kernel: int | None = None
    posterize_p: float = 0.0
    posterize_bits: int = 4
    erase_p: float = 0.0
    erase_scale: tuple[float, float] = (0.02, 0.33)
    erase_ratio: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "jitter", "blur_sigma", "erase_scale", "erase_ratio"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        self._check("count", _is_positive_int(self.count), "an integer, at least 1")
        self._check("size", _is_positive_int(self.size), "an integer number of pixels, at least 1")
        self._check("crop_scale", _is_range(self.crop_scale, 1.0), "a pair (low, high) with 0 < low <= high <= 1")
        self._check("crop_ratio", _is_range(self.crop_ratio), "a pair (low, high) with 0 < low <= high")
        self._check("interpolation", self.interpolation in ("bilinear", "bicubic"), "'bilinear' or 'bicubic'")
        for name in (field.name for field in fields(self) if field.name.endswith(("_p", "_threshold"))):
            self._check(name, _is_number(getattr(self, name), 1.0), "a number in [0, 1]")
        strengths = isinstance(self.jitter, tuple) and len(self.jitter) == 4 and all(map(_is_number, self.jitter))
        expected = "four numbers: brightness, contrast and saturation, at least 0, and hue, in [0, 0.5]"
        self._check("jitter", strengths and self.jitter[3] <= 0.5, expected)
        self._check("blur_sigma", _is_range(self.blur_sigma), "a pair (low, high) with 0 < low <= high")
        self._check("rotate_degrees", _is_number(self.rotate_degrees, 180.0), "a number of degrees in [0, 180]")
        bits = _is_positive_int(self.posterize_bits) and self.posterize_bits <= 8
        self._check("posterize_bits", bits, "an integer in [1, 8]")
        self._check("erase_scale", _is_range(self.erase_scale, 1.0), "a pair (low, high) with 0 < low <= high <= 1")
        self._check("erase_ratio", _is_range(self.erase_ratio), "a pair (low, high) with 0 < low <= high")
        odd = self.blur_kernel is None or (_is_positive_int(self.blur_kernel) and self.blur_kernel % 2 == 1)
        self._check("blur_kernel", odd, "None or an odd integer number of pixels")
        if self.blur_p > 0 and self.kernel_size >= 2 * self.size:
            raise ValueError(
                f"ViewConfig.blur_kernel: {self.kernel_size} pixels do not fit a view of size {self.size}; "
                "set blur_kernel below twice the size, or blur_p to 0"
            )

    @property
    def kernel_size(self) -> int:
        """Kernel size of the blur in pixels, odd."""
        return self.blur_kernel if self.blur_kernel is not None else max(3, 2 * (self.size // 20) + 1)

    def _check(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise ValueError(f"ViewConfig.{name} must be {expected}; got {getattr(self, name)!r}")


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any, high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high


def _is_range(value: Any, high: float = float("inf")) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(_is_number(number, high) for number in value)
    return pair and 0 < value[0] <= value[1]
