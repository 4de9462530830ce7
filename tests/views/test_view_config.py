"""Validation of ViewConfig."""

import re

import pytest

from ssl_lib.views import ViewConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 0),
        ("count", 2.0),
        ("size", 0),
        ("size", True),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.5, 0.2)),
        ("crop_scale", (0.5, 1.1)),
        ("crop_scale", 0.5),
        ("crop_ratio", (0.0, 1.0)),
        ("crop_ratio", (2.0, 1.0)),
        ("interpolation", "nearest"),
        ("flip_p", 1.5),
        ("jitter", (0.4, 0.4, 0.4)),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("jitter", (-0.4, 0.4, 0.4, 0.1)),
        ("jitter_p", -0.1),
        ("grayscale_p", "0.2"),
        ("blur_p", float("nan")),
        ("blur_sigma", (0.0, 1.0)),
        ("blur_sigma", (2.0, 1.0)),
        ("solarize_p", 2),
        ("solarize_threshold", 128),
        ("blur_kernel", 4),
        ("blur_kernel", -3),
    ],
)
def test_invalid_value_raises_an_error_with_the_attribute(field, value):
    with pytest.raises(ValueError, match=rf"ViewConfig\.{field} must be .*; got {re.escape(repr(value))}"):
        ViewConfig(**{field: value})


def test_blur_kernel_scales_with_the_size():
    assert [ViewConfig(size=size).kernel_size for size in (16, 28, 32, 64, 96, 224)] == [3, 3, 3, 7, 9, 23]
    assert ViewConfig(size=32, blur_kernel=5).kernel_size == 5
    with pytest.raises(ValueError, match="blur_kernel: 23 pixels do not fit a view of size 8"):
        ViewConfig(size=8, blur_kernel=23)
    assert ViewConfig(size=1, blur_p=0.0).size == 1


def test_lists_are_converted_to_tuples():
    assert ViewConfig(crop_scale=[0.2, 1.0], jitter=[0.4, 0.4, 0.4, 0.1]) == ViewConfig(crop_scale=(0.2, 1.0))
