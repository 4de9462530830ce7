from __future__ import annotations

import numpy as np
import torch

from ssl_lib.data import ArrayData


class TwoCrops:
    """The part of a view pipeline that workers use: two random 8 x 8 windows, the second upside down."""

    def crop(self, image, generator):
        top, left = (int(torch.randint(0, side - 7, (), generator=generator)) for side in image.shape[1:])
        window = image[:, top : top + 8, left : left + 8]
        return window, window.flip(1)


def numbered(count=23, mapped_to=None):
    """Images that hold their own index in every pixel, labeled with twice that."""
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    if mapped_to:
        np.save(mapped_to / "images.npy", images)
        images = np.load(mapped_to / "images.npy", mmap_mode="r")
    return ArrayData(images, np.arange(count) * 2)
