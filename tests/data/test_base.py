from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from ssl_lib.data.base import DataWarning, check_axes, warn


@pytest.mark.parametrize(
    ("shape", "first", "fix"),
    [
        ((64, 48, 3), True, "permute(2, 0, 1)"),
        ((8, 64, 48, 3), True, "permute(0, 3, 1, 2)"),
        ((3, 64, 48), False, "transpose(1, 2, 0)"),
        ((8, 1, 64, 48), False, "transpose(0, 2, 3, 1)"),
    ],
)
def test_message_contains_the_transposition_that_repairs_the_array(shape, first, fix):
    with pytest.raises(ValueError, match="would have") as caught:
        check_axes(shape, first)
    assert f"write images.{fix}" in str(caught.value)
    repaired = eval(f"images.{fix}", {"images": torch.zeros(shape) if first else np.zeros(shape)})
    check_axes(tuple(repaired.shape), first)


@pytest.mark.parametrize(
    ("shape", "first"), [((12, 64, 48), True), ((64, 48, 12), False), ((2, 12, 64, 48), True), ((2, 64, 48, 12), False)]
)
def test_more_than_four_channels_are_given(shape, first):
    with pytest.raises(ValueError, match=r"would have 12 channels: if it has, pass channels=12"):
        check_axes(shape, first)
    check_axes(shape, first, channels=12)
    with pytest.raises(ValueError, match="pass channels=12"):
        check_axes(shape, first, channels=64)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_usual_shapes_pass(channels):
    for shape, first in (((channels, 64, 48), True), ((64, 48, channels), False), ((5, 64, 48, channels), False)):
        check_axes(shape, first)
    check_axes((64, 48), False)


def test_warning_is_shown_once():
    with pytest.warns(DataWarning, match="left out"):
        warn("left out 1 .txt")
    script = "from ssl_lib.data.base import warn\nfor _ in range(3): warn('once')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.count("DataWarning: once") == 1
