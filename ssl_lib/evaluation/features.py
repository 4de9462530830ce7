"""Frozen features of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ssl_lib.data import ImageData, evaluation_batches
from ssl_lib.data.base import SkipImage
from ssl_lib.distributed import gather_objects, gather_uneven, is_distributed, rank, share
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.views import ViewPipeline
from ssl_lib.views.color import normalize

__all__ = ["RawPixels", "device_of", "encode", "extract_features", "frozen", "progress", "view_features"]

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


@contextlib.contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Puts an encoder into eval mode, without gradients; every module's own mode is restored after."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def encode(encoder: nn.Module, images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalizes uint8 images (N, C, H, W), passes them through the encoder: (N, D) in float32, on the CPU."""
    images = normalize(images.to(device_of(encoder)).float() / 255, mean, std)
    features: Tensor = encoder(images.contiguous(memory_format=torch.channels_last)).float().cpu()
    return features


def extract_features(
    encoder: nn.Module,
    data: ImageData,
    *,
    indices: Tensor | None = None,
    size: int | None = None,
    resize: int | None = None,
    batch_size: int = 512,
    workers: int | None = None,
    title: str = "features",
) -> tuple[Tensor, Tensor | None]:
    """Passes every image once, in order, through the encoder in eval mode; its training mode is restored after.

    Of several processes each takes a part of the images, and all get the features of all; they must call this together.

    Args:
        encoder: (N, C, H, W) -> (N, D); features are computed where its parameters are.
        data: Images are normalized by its `mean` and `std`, without augmentation.
        indices: (N,), positions of the images to take; None takes all.
        size: Side of the images shown; see `evaluation_batches`.
        resize: Pixels that the shorter side is resized to first; see `evaluation_batches`.
        batch_size: Images per forward pass.
        workers: Processes that decode, for data not in memory.
        title: Of the progress bar.

    Returns:
        Features (N, D) in float32 and labels (N,) or None, on the CPU; N is the number of images, less those that
        could not be read where the data set leaves them out.
    """
    features, seen = torch.zeros(0, 0), list[Tensor]()
    mine, count = share(torch.arange(len(data)) if indices is None else indices), 0
    batches = evaluation_batches(data, batch_size, size, workers, mine, resize)
    with frozen(encoder):
        for batch in progress(batches, title, -(-len(mine) // batch_size), unit="batch"):
            assert isinstance(batch.images, Tensor)
            some = encode(encoder, batch.images, data.mean, data.std)
            if not seen:  # room for all at once: parts joined at the end would need it twice
                features = some.new_empty(len(mine), some.shape[1])
            features[count : count + len(some)] = some
            count += len(some)
            seen.append(batch.indices)
    order = torch.cat([*seen, torch.zeros(0, dtype=torch.int64)])
    features, order = _joined(data, features[:count], order) if is_distributed() else (features[:count], order)
    return features, None if data.labels is None else data.labels[order]


def view_features(
    encoder: nn.Module,
    data: ImageData,
    views: ViewPipeline,
    count: int,
    *,
    indices: Tensor,
    seed: int = 0,
    batch_size: int = 512,
    title: str = "views",
) -> Tensor:
    """Features of several random views of each image, in eval mode; the encoder's training mode is restored after.

    Of several processes each takes a part of the images, and all get the features of all; they must call this together.

    Args:
        encoder: (N, C, H, W) -> (N, D); features are computed where its parameters are.
        data: The images; those that could not be read are left out.
        views: The training's: its large views are made in turn.
        count: Views of each image.
        indices: (N,), positions of the images to take.
        seed: With it and its position an image always has the same views.
        batch_size: Views per forward pass.
        title: Of the progress bar.

    Returns:
        (N, count, D) in float32, on the CPU.
    """
    large = [view for view in views.views if view.size == views.size]
    pipeline = ViewPipeline([large[place % len(large)] for place in range(count)], views.mean, views.std)
    device, mine = device_of(encoder), share(indices)
    found = []
    with frozen(encoder):
        batches = mine.split(max(1, batch_size // count))
        for batch in progress(batches, title, len(batches), unit="batch"):
            crops, numbers = [], []
            for place in batch.tolist():
                generator = seeded_generator("views", seed, place)
                with contextlib.suppress(SkipImage):
                    crops.append(pipeline.crop(data.read(place), generator))
                    numbers.append(pipeline.draw(1, generator))
            if crops:
                stacked = [torch.stack(view).to(device) for view in zip(*crops, strict=True)]
                made = torch.stack(pipeline(stacked, numbers=torch.cat(numbers)).large, 1)  # (n, count, C, H, W)
                features = encoder(made.flatten(0, 1).contiguous(memory_format=torch.channels_last))
                found.append(features.float().cpu().unflatten(0, (-1, count)))
    widths = gather_objects(found[0].shape[2] if found else 0)
    return gather_uneven(torch.cat(found) if found else torch.empty(0, count, max(widths)))


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
