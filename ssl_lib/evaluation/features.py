"""Feature extraction with a frozen encoder, for images and for random views of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_lib.data import ImageData, evaluation_batches, image_name
from ssl_lib.data.base import SkipImage
from ssl_lib.data.preprocessing import Preprocessing, chosen_preprocessing
from ssl_lib.distributed import gather_objects, gather_uneven, is_distributed, rank, share
from ssl_lib.errors import DataError
from ssl_lib.types import Batch
from ssl_lib.utils.progress_bar import progress_bar
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.views import ViewPipeline

__all__ = [
    "RawPixels",
    "check_features",
    "device_of",
    "encode",
    "extract_features",
    "frozen",
    "located_features",
    "progress",
    "view_features",
]

T = TypeVar("T")


class RawPixels(nn.Module):
    """Baseline without a network: flattens the image, downsampled to 32 x 32 if it is larger."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C * h * w)."""
        if max(images.shape[-2:]) > 32:
            images = F.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
        return images.flatten(1)


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def progress(items: Iterable[T], title: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yields the items with a progress bar, which only the first process shows and which is cleared at the end."""
    yield from progress_bar(items, title, total=total, unit=unit, show=not rank())


@contextlib.contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Context with the encoder in eval mode and gradients disabled; restores the mode of every module on exit."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def encode(encoder: nn.Module, raw: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Encodes a batch of arranged images: features (N, D) on the CPU, in float32 or, of float64 networks, in float64.

    All features of frozen networks are computed here.

    Args:
        encoder: (N, C, H, W) -> (N, D). It runs on the device of its parameters.
        raw: Images from `Preprocessing.arrange`, (N, C, size, size).
        preprocessing: Normalizes the images.

    Raises:
        ValueError: The encoder returns something else.
    """
    dtype = torch.promote_types(next((x.dtype for x in encoder.parameters()), torch.float32), torch.float32)
    images = preprocessing(raw, device_of(encoder)).to(dtype)
    features = encoder(images.contiguous(memory_format=torch.channels_last))
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(raw):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"the encoder must return features (N, D) of {len(raw)} images, got {got}")
    return features.to("cpu", dtype)


def check_features(features: Tensor, data: ImageData, indices: Tensor) -> None:
    """Checks that the features (N, D) of the images at `indices` (N,) are finite.

    Raises:
        DataError: A value is NaN or infinite; the message names the image.
    """
    bad = ~features.isfinite().all(1)
    if bad.any():
        name = image_name(data, int(indices[bad][0]))
        raise DataError(f"{name}: the encoder returns NaN or infinity; try another precision, or check the run's loss")


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
    preprocessing: Preprocessing | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Encodes every image once, in order, with the encoder in eval mode; its mode is restored afterwards.

    All processes must call this function together. Each encodes a part of the images and gets the features of all.

    Args:
        encoder: (N, C, H, W) -> (N, D). It runs on the device of its parameters.
        data: The images, without augmentation.
        indices: (N,), positions of the images to encode; None encodes all.
        size: Side of the images fed to the encoder in pixels; see `Preprocessing.of`.
        resize: Length in pixels that the shorter side is resized to before cropping; see `Preprocessing.of`.
        batch_size: Images per forward pass.
        workers: Number of worker processes that decode images, for data not in memory.
        title: Title of the progress bar.
        preprocessing: Resizes and normalizes the images; None is `Preprocessing.of(data, size, resize)`. Pass that of
            the training images if `data` are other images.

    Returns:
        Features (N, D) in float32 and labels (N,) or None, on the CPU. N does not count unreadable images that the data
        set skips.

    Raises:
        DataError: An image cannot be read, or its features are not finite.
        ValueError: There is no preprocessing, and `data` has no mean and std, or `size` is None for images of various
            sizes; or there are both.
    """
    preprocessing = chosen_preprocessing(preprocessing, data, size, resize)
    features, order = located_features(encoder, data, preprocessing, indices, batch_size, workers, title)
    return features, None if data.labels is None else data.labels[order]


def located_features(
    encoder: nn.Module,
    data: ImageData,
    preprocessing: Preprocessing,
    indices: Tensor | None = None,
    batch_size: int = 512,
    workers: int | None = None,
    title: str = "features",
) -> tuple[Tensor, Tensor]:
    """Like `extract_features`, but returns the positions (N,) of the images instead of their labels."""
    mine = share(torch.arange(len(data)) if indices is None else indices)
    features, order, count = torch.empty(0, 0), torch.empty(len(mine), dtype=torch.int64), 0
    batches = evaluation_batches(data, batch_size, workers=workers, indices=mine, preprocessing=preprocessing)
    with frozen(encoder):
        for batch in progress(batches, title, -(-len(mine) // batch_size), unit="batch"):
            assert isinstance(batch.images, Tensor)
            some = encode(encoder, batch.images, preprocessing)
            check_features(some, data, batch.indices)
            if not count:  # allocate the result once: concatenating batches would need twice the memory
                features = some.new_empty(len(mine), some.shape[1])
            start, count = count, count + len(some)
            features[start:count], order[start:count] = some, batch.indices
    features, order = features[:count], order[:count]
    if is_distributed():
        features, order = _joined(data, features, order)
    return features, order


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
    """Encodes several random views of each image, with the encoder in eval mode; its mode is restored afterwards.

    All processes must call this function together. Each encodes a part of the images and gets the features of all.

    Args:
        encoder: (N, C, H, W) -> (N, D). It runs on the device of its parameters.
        data: The images. Unreadable images are skipped.
        views: The training pipeline; cycles through its large views.
        count: Number of views per image.
        indices: (N,), positions of the images to encode.
        seed: The views of an image depend only on this seed and its position.
        batch_size: Views per forward pass.
        title: Title of the progress bar.

    Returns:
        (N, count, D) in float32, on the CPU.

    Raises:
        DataError: An image cannot be read, or its features are not finite.
    """
    large = [view for view in views.views if view.size == views.size]
    pipeline = ViewPipeline([large[place % len(large)] for place in range(count)], views.mean, views.std)
    device, mine = device_of(encoder), share(indices)
    found = []
    with frozen(encoder):
        batches = mine.split(max(1, batch_size // count))
        for batch in progress(batches, title, unit="batch"):
            crops, numbers, read = [], [], list[int]()
            for place in batch.tolist():
                generator = seeded_generator("views", seed, place)
                with contextlib.suppress(SkipImage):
                    crops.append(pipeline.crop(data.read(place), generator))
                    numbers.append(pipeline.draw(1, generator))
                    read.append(place)
            if crops:
                stacked = tuple(torch.stack(view) for view in zip(*crops, strict=True))
                images = Batch(stacked, labels=None, indices=torch.empty(0), numbers=torch.cat(numbers))
                large_views = torch.stack(pipeline(images.to(device)).large, 1)  # (n, count, C, H, W)
                features = encoder(large_views.flatten(0, 1).contiguous(memory_format=torch.channels_last))
                found.append(features.float().cpu().unflatten(0, (-1, count)))
                check_features(found[-1].flatten(1), data, torch.tensor(read))
    return _gather_features(torch.cat(found) if found else torch.empty(0, count, 0))


def _joined(data: ImageData, features: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Gathers features and positions from all processes, sorted by position and without duplicates."""
    skipped: list[str] = getattr(data, "skipped", [])
    for names in gather_objects(list(skipped)):
        skipped.extend(sorted(set(names).difference(skipped)))
    order = gather_uneven(order)
    places = torch.from_numpy(np.unique(order.numpy(), return_index=True)[1])
    return _gather_features(features)[places], order[places]


def _gather_features(features: Tensor) -> Tensor:
    """Joins the features (..., D) of all processes, of which some may have no image and then do not know D."""
    width = max(gather_objects(features.shape[-1]))
    return gather_uneven(features if len(features) else features.new_empty(*features.shape[:-1], width))
