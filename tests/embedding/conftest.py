"""Fixtures and helpers shared by the tests of `embed`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import FolderData
from tests.conftest import TinyBackbone

OPTIONS = {"size": 8, "batch_size": 16, "workers": 0}


class InterruptedData(FolderData):
    """Raises KeyboardInterrupt when the image at index `at` is read."""

    at = -1

    def read(self, index):
        if index == self.at:
            raise KeyboardInterrupt
        return super().read(index)


def corrupt(data, *indices):
    """Overwrites image files with invalid content."""
    for index in indices:
        with open(data.path(index), "wb") as file:
            file.write(b"torn")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TinyBackbone(3)


@pytest.fixture
def photos(tmp_path):
    """90 images in three classes, of different sizes."""
    rng = np.random.default_rng(0)
    for index in range(90):
        folder = tmp_path / "photos" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9 + index % 5, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "photos"
