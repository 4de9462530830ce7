"""Pictures inside the page."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ssl_lib.data.datasets.arrays import ArrayData

__all__ = ["Sheet", "data_uri", "make_sheet"]

_THUMBNAIL = 56  # pixels
_LOSSLESS = 32  # sides up to which every pixel counts


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of a sample in one picture, row by row.

    Attributes:
        name: Of its content, so that runs on the same images share it.
        uri: The picture.
        columns: Thumbnails in a row.
        rows: Of thumbnails.
    """

    name: str
    uri: str
    columns: int
    rows: int

    def position(self, index: int) -> str:
        """Where a thumbnail lies, as CSS background-position."""
        row, column = divmod(index, self.columns)
        places = (column / max(1, self.columns - 1), row / max(1, self.rows - 1))
        return " ".join(f"{100 * place:.4g}%" for place in places)


def make_sheet(sample: ArrayData) -> Sheet:
    """The thumbnails of all images of a sample."""
    side = min(_THUMBNAIL, max(sample.height, sample.width))
    small = torch.cat([_shrunk(sample.gather(some), side) for some in torch.arange(len(sample)).split(256)])
    columns = int(np.ceil(len(small) ** 0.5))
    rows = -(-len(small) // columns)
    cells = F.pad(small, (0, 0, 0, 0, 0, 0, 0, columns * rows - len(small)))
    joined = cells.view(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side)
    uri = data_uri(joined, side <= _LOSSLESS)
    return Sheet(f"s{hashlib.sha256(uri.encode()).hexdigest()[:12]}", uri, columns, rows)


def data_uri(image: Tensor, lossless: bool | None = None) -> str:
    """A uint8 image (C, H, W) as PNG where it is small or `lossless`, else as JPEG; gray ones take one channel."""
    image = _three_channels(image)
    gray = bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
    values = image[0] if gray else image.permute(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(values.numpy()))
    lossless = max(picture.size) <= _LOSSLESS if lossless is None else lossless
    kind = "png" if lossless else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, kind, **({"optimize": True} if lossless else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _shrunk(images: Tensor, side: int) -> Tensor:
    """Squares of three channels (N, 3, side, side), small images as they are."""
    images = _three_channels(images)
    if images.shape[-2:] == (side, side):
        return images
    shrunk = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return shrunk.round().clamp(0, 255).byte()


def _three_channels(images: Tensor) -> Tensor:
    """The first three channels of many, or the first one thrice."""
    if images.shape[-3] >= 3:
        return images[..., :3, :, :]
    return torch.cat([images[..., :1, :, :]] * 3, dim=-3)
