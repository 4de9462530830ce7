"""One view, described as data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = ["ViewConfig"]


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """What is done to an image to make one view of it: crop, flips and turns, jitter and what follows, in this order.

    The defaults are MoCo v2's (moco/main_moco.py) but for the crop, which is RandomResizedCrop's of torchvision.
    Every probability is per image. Lists are taken as tuples.

    Attributes:
        count: How many views are made in this way.
        size: Side of the view in pixels.
        crop_scale: Smallest and largest share of the image's area to crop, in (0, 1].
        crop_ratio: Smallest and largest width over height of the crop.
        interpolation: Filter of the antialiased resize; the bicubic one's overshoot is clamped to [0, 1].
        flip_p: Probability of mirroring left to right.
        vertical_flip_p: Probability of turning upside down, for images without an up, such as those from above.
        turn_p: Probability of turning by one, two or three right angles, each as likely.
        rotate_p: Probability of rotating by any angle about the center; the corners become black.
        rotate_degrees: Largest angle of that rotation, either way, in [0, 180].
        jitter: Strengths of brightness, contrast and saturation (factors are uniform in [max(0, 1 - s), 1 + s]) and
            of hue (uniform in [-s, s] turns, at most 0.5); the four come in random order.
        jitter_p: Probability of jittering.
        grayscale_p: Probability of losing the color.
        blur_p: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels.
        solarize_p: Probability of inverting the bright pixels.
        solarize_threshold: Where bright begins, in [0, 1]; 0.5 is 128 of 255.
        blur_kernel: Taps of the blur, odd. None: about a tenth of the side and at least 3; 23 at 224.
        posterize_p: Probability of keeping `posterize_bits` bits of each value.
        posterize_bits: In [1, 8].
        erase_p: Probability of erasing a box (RandomErasing), filled with the mean color.
        erase_scale: Smallest and largest share of the view's area to erase, in (0, 1].
        erase_ratio: Smallest and largest height over width of the box.

    Raises:
        ValueError: A value is out of range; the message names it.
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
        self._check("count", _whole(self.count), "a whole number, at least 1")
        self._check("size", _whole(self.size), "a whole number of pixels, at least 1")
        self._check("crop_scale", _range(self.crop_scale, 1.0), "a pair (low, high) with 0 < low <= high <= 1")
        self._check("crop_ratio", _range(self.crop_ratio), "a pair (low, high) with 0 < low <= high")
        self._check("interpolation", self.interpolation in ("bilinear", "bicubic"), "'bilinear' or 'bicubic'")
        for name in (field.name for field in fields(self) if field.name.endswith(("_p", "_threshold"))):
            self._check(name, _number(getattr(self, name), 1.0), "a number in [0, 1]")
        strengths = isinstance(self.jitter, tuple) and len(self.jitter) == 4 and all(map(_number, self.jitter))
        need = "four numbers: brightness, contrast and saturation, at least 0, and hue, in [0, 0.5]"
        self._check("jitter", strengths and self.jitter[3] <= 0.5, need)
        self._check("blur_sigma", _range(self.blur_sigma), "a pair (low, high) with 0 < low <= high")
        self._check("rotate_degrees", _number(self.rotate_degrees, 180.0), "a number of degrees in [0, 180]")
        bits = _whole(self.posterize_bits) and self.posterize_bits <= 8
        self._check("posterize_bits", bits, "a whole number in [1, 8]")
        self._check("erase_scale", _range(self.erase_scale, 1.0), "a pair (low, high) with 0 < low <= high <= 1")
        self._check("erase_ratio", _range(self.erase_ratio), "a pair (low, high) with 0 < low <= high")
        odd = self.blur_kernel is None or (_whole(self.blur_kernel) and self.blur_kernel % 2 == 1)
        self._check("blur_kernel", odd, "None or an odd whole number of pixels")
        if self.blur_p > 0 and self.kernel_size >= 2 * self.size:
            raise ValueError(
                f"ViewConfig.blur_kernel: {self.kernel_size} taps do not fit a view of size {self.size} (the borders "
                "are mirrored); set blur_p to 0, or a kernel below twice the size"
            )

    @property
    def kernel_size(self) -> int:
        """Taps of the blur in pixels, odd."""
        return self.blur_kernel if self.blur_kernel is not None else max(3, 2 * (self.size // 20) + 1)

    def _check(self, name: str, good: bool, need: str) -> None:
        if not good:
            raise ValueError(f"ViewConfig.{name} must be {need}; got {getattr(self, name)!r}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any, high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high


def _range(value: Any, high: float = float("inf")) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(_number(number, high) for number in value)
    return pair and 0 < value[0] <= value[1]
