"""Tiles of large images, such as slides and aerial images, as a data set of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.data.base import ImageDataset, SkipImage, warn
from ssl_lib.data.datasets.folder_data import FolderData
from ssl_lib.data.io.pillow import opened
from ssl_lib.data.io.raw import orientation_of

__all__ = ["Tiles"]

_WIDTH, _HEIGHT = 256, 257  # TIFF tags


class Tiles(ImageDataset):
    """An `ImageData` of the square tiles of image files, without overlap, row by row from the center's top left.

    Pixels at the borders that do not fill a tile are left out, which is reported. A side of an image that is shorter
    than a tile is not cut. Each tile has the label of its image; its name is the name of the image with the tile's top
    and left.

    Args:
        data: The images. Consecutive tiles of an image are read with one decoding.
        size: Side of a tile in pixels.

    Raises:
        DataError: The size of an image cannot be read, and `data.on_error` is "raise".
        ValueError: `size` is below 1.
    """

    def __init__(self, data: FolderData, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}")
        self.data, self.size = data, size
        self.mean, self.std, self.channels = data.mean, data.std, data.channels
        self.class_names, self.skipped = data.class_names, data.skipped
        self.decoder, self.on_error = data.decoder, data.on_error
        sides = [self._sides(index) for index in range(len(data))]
        tiles = torch.cat([_tiles(index, *both, size) for index, both in enumerate(sides)])
        _report_borders(data, sides, size)
        self._tiles = tiles.to(torch.int32)  # (N, 3): image, top, left
        self.labels = None if data.labels is None else data.labels[tiles[:, 0]]
        self._decoded: tuple[int, Tensor | SkipImage] | None = None

    @property
    def images(self) -> Tensor:
        """Index of the image of each tile (N,)."""
        return self._tiles[:, 0]

    def __len__(self) -> int:
        return len(self._tiles)

    def name(self, index: int) -> str:
        """Returns the name of the image, followed by @ and the tile's top and left in pixels."""
        image, top, left = self._tiles[index].tolist()
        return f"{self.data.name(image)}@{top},{left}"

    def read(self, index: int) -> Tensor:
        """Returns one tile (C, size, size), uint8, or float32 in [0, 1] at depth 16.

        Raises:
            DataError: The image cannot be read. This is a SkipImage if `data.on_error` is "skip".
        """
        image, top, left = self._tiles[index].tolist()
        if self._decoded is None or self._decoded[0] != image:
            self._decoded = None  # frees the memory of the last image
            self._decoded = image, self._read(image)
        pixels = self._decoded[1]
        if isinstance(pixels, SkipImage):
            raise pixels
        return pixels[:, top : top + self.size, left : left + self.size]

    def _read(self, image: int) -> Tensor | SkipImage:
        try:
            return self.data.read(image)
        except SkipImage as error:  # kept, so that the image is not decoded again for each of its tiles
            return error

    def _sides(self, index: int) -> tuple[int, int]:
        """Height and width of an upright image; 0 and 0 if it cannot be read, which `read` reports."""
        try:
            with opened(self.data.path(index), sys.maxsize) as image:
                image.seek(self.data.page(index))
                tags = getattr(image, "tag_v2", None)  # Pillow swaps the sides of a turned TIFF file itself
                width, height = image.size if tags is None else (tags[_WIDTH], tags[_HEIGHT])
                return (width, height) if orientation_of(image) >= 5 else (height, width)
        except Exception:  # Pillow raises many types on damaged files
            return self._measured(index)

    def _measured(self, index: int) -> tuple[int, int]:
        """Decodes an image whose header Pillow cannot read, such as an array."""
        try:
            height, width = self.data.read(index).shape[-2:]
        except SkipImage:
            return 0, 0
        return height, width


def _report_borders(data: FolderData, sides: Sequence[tuple[int, int]], size: int) -> None:
    """Warns of the pixels that no tile contains, and of images with a side shorter than a tile."""
    height, width = torch.tensor(sides).T
    used = [torch.where(side < size, side, side // size * size) for side in (height, width)]
    left = height * width - used[0] * used[1]
    short = int(((height < size) != (width < size)).sum())
    problems = []
    if left.any():
        first = int(left.nonzero()[0])
        problems.append(
            f"leave out {100 * float(left.sum() / (height * width).sum()):.2g} % of the pixels, at the borders of "
            f"{int((left > 0).sum()):,} of {len(data):,} images, such as {data.name(first)} ({width[first]} x "
            f"{height[first]}), where they do not fill a tile"
        )
    if short:
        problems.append(f"are shorter in {short:,} image{'s' * (short > 1)}, where pack keeps the center of each")
    if problems:
        found = "; they ".join(problems)
        warn(f"{data.root}: tiles of {size} x {size} pixels {found}. Choose another size to keep more")


def _tiles(image: int, height: int, width: int, size: int) -> Tensor:
    rows, columns = max(1, height // size), max(1, width // size)
    top, left = max(0, height - rows * size) // 2, max(0, width - columns * size) // 2
    places = torch.cartesian_prod(torch.arange(rows) * size + top, torch.arange(columns) * size + left)
    return torch.cat([torch.full((len(places), 1), image), places], dim=1)
