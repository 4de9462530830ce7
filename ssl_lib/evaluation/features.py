"""Frozen features of a data set."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ssl_lib.data import ImageData, evaluation_batches
from ssl_lib.distributed import gather_uneven, rank, share, world_size
from ssl_lib.views.functional import normalize

__all__ = ["RawPixels", "device_of", "extract_features"]


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


@torch.no_grad()
def extract_features(
    encoder: nn.Module,
    data: ImageData,
    *,
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
    features: list[Tensor] = []
    indices: list[Tensor] = []
    everything = torch.arange(len(data))
    mine = share(everything) if len(data) >= world_size() else everything  # so that no process is without
    batches = evaluation_batches(data, batch_size, size, workers, mine)
    hidden = True if rank() else None  # None: where there is no terminal
    try:
        for batch in tqdm(batches, title, -(-len(mine) // batch_size), leave=False, disable=hidden, unit="batch"):
            assert isinstance(batch.images, Tensor)
            images = normalize(batch.images.to(device).float() / 255, data.mean, data.std)
            features.append(encoder(images.contiguous(memory_format=torch.channels_last)).float())
            indices.append(batch.indices)
    finally:
        for module, mode in modes.items():
            module.training = mode
    order = gather_uneven(torch.cat(indices).to(device)).cpu()
    places = torch.from_numpy(np.unique(order.numpy(), return_index=True)[1])  # of each image once, in order
    labels = None if data.labels is None else data.labels[order[places]]
    return gather_uneven(torch.cat(features)).cpu()[places], labels
