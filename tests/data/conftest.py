from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.data.pack_samples import SIZE


@pytest.fixture
def folder(tmp_path):
    """Eleven images of different sizes in three class folders."""
    rng = np.random.default_rng(0)
    for index in range(11):
        side = 10 + index
        pixels = rng.integers(0, 256, (side, 2 * side, 3), dtype=np.uint8)
        folder = tmp_path / "images" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return tmp_path / "images"


@pytest.fixture
def many(tmp_path):
    """150 images in three class folders: several batches of `pack`."""
    rng = np.random.default_rng(0)
    for index in range(150):
        folder = tmp_path / "many" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE + index % 5, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "many"
