"""Thumbnail sheets."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import ArrayData
from ssl_lib.report.sections.images import make_sheet


@pytest.mark.parametrize(("count", "channels"), [(7, 1), (5, 3), (4, 4)])
def test_sheet_has_the_thumbnails_row_by_row(count, channels):
    pixels = torch.arange(count * channels * 6 * 6).remainder(251).byte().view(count, channels, 6, 6)
    sheet = make_sheet(ArrayData(pixels))
    picture = Image.open(io.BytesIO(base64.b64decode(sheet.uri.partition(",")[2]))).convert("RGB")
    whole = np.asarray(picture)
    assert whole.shape == (sheet.rows * 6, sheet.columns * 6, 3)
    for index in range(count):
        left, top = 6 * (index % sheet.columns), 6 * (index // sheet.columns)
        expected = pixels[index, :3] if channels >= 3 else pixels[index].expand(3, -1, -1)
        assert np.array_equal(whole[top : top + 6, left : left + 6], expected.permute(1, 2, 0).numpy())
