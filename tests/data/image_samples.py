from __future__ import annotations

import numpy as np
import torch

from ssl_lib.data import ArrayData


class TwoCrops:
    """A minimal view pipeline: two views, a random 8 x 8 crop and its vertical flip."""

    def crop(self, image, generator):
        top, left = (int(torch.randint(0, side - 7, (), generator=generator)) for side in image.shape[1:])
        window = image[:, top : top + 8, left : left + 8]
        return window, window.flip(1)

    def draw(self, count, generator=None):
        return torch.rand(count, 2, 3, generator=generator)


def numbered(count=23, folder=None):
    """Images whose pixels are all equal to their index, with the label count - 1 - index."""
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    if folder:
        np.save(folder / "images.npy", images)
        images = np.load(folder / "images.npy", mmap_mode="r")
    return ArrayData(images, np.arange(count)[::-1])
