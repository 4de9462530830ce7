"""Frozen features of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ssl_lib.data import ImageData, evaluation_batches
from ssl_lib.distributed import gather_objects, gather_uneven, is_distributed, rank, share
from ssl_lib.views.functional import normalize

__all__ = ["RawPixels", "device_of", "extract_features", "progress"]

T = TypeVar("T")


class RawPixels(nn.Module):
    """The baseline without a network: the image itself, at most 32 pixels a side, as one vector."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C * h * w)."""
        if max(images.shape[-2:]) > 32:
            images = F.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
        return images.flatten(1)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU, where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def progress(items: Iterable[T], title: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """The items behind a progress bar, which the first process shows where there is a terminal, and takes away."""
    hidden = True if rank() else None  # None: where there is no terminal
    yield from tqdm(items, title, total, leave=False, disable=hidden, unit=unit)


@torch.no_grad()
def extract_features(
    encoder: nn.Module,
    data: ImageData,
    *,
    indices: Tensor | None = None,
    size: int | None = None,
    batch_size: int = 512,
    workers: int | None = None,
    title: str = "features",
) -> tuple[Tensor, Tensor | None]:
    """Passes every image once, in order, through the encoder in eval mode; its training mode is restored after.

    Of several processes each takes a part of the images, and all get the features of all; they must call this together.

    Args:
        encoder: (N, C, H, W) -> (N, D); features are computed where its parameters are.
        data: Images are normalised by its `mean` and `std`, without augmentation.
        indices: (N,), positions of the images to take; None takes all.
        size: Side of the images shown; see `evaluation_batches`.
        batch_size: Images per forward pass.
        workers: Processes that decode, for data not in memory.
        title: Of the progress bar.

    Returns:
        Features (N, D) in float32 and labels (N,) or None, on the CPU; N is the number of images, less those that
        could not be read where the data set leaves them out.
    """
    device = device_of(encoder)
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    features, seen = torch.zeros(0, 0), list[Tensor]()
    mine, count = share(torch.arange(len(data)) if indices is None else indices), 0
    batches = evaluation_batches(data, batch_size, size, workers, mine)
    try:
        for batch in progress(batches, title, -(-len(mine) // batch_size), unit="batch"):
            assert isinstance(batch.images, Tensor)
            images = normalize(batch.images.to(device).float() / 255, data.mean, data.std)
            some = encoder(images.contiguous(memory_format=torch.channels_last)).float().cpu()
            if not seen:  # room for all at once: parts joined at the end would need it twice
                features = some.new_empty(len(mine), some.shape[1])
            features[count : count + len(some)] = some
            count += len(some)
            seen.append(batch.indices)
    finally:
        for module, mode in modes.items():
            module.training = mode
    order = torch.cat([*seen, torch.zeros(0, dtype=torch.int64)])
    features, order = _joined(data, features[:count], order) if is_distributed() else (features[:count], order)
    return features, None if data.labels is None else data.labels[order]


def _joined(data: ImageData, features: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The features and positions of all processes, those of each image once, in the order of the images."""
    skipped: list[str] = getattr(data, "skipped", [])
    for names in gather_objects(list(skipped)):
        skipped.extend(sorted(set(names).difference(skipped)))
    width = max(gather_objects(features.shape[1]))
    order = gather_uneven(order)
    places = torch.from_numpy(np.unique(order.numpy(), return_index=True)[1])
    if not len(features):  # a process may have read no image at all
        features = features.new_empty(0, width)
    return gather_uneven(features)[places], order[places]
