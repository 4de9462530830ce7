"""The view pipelines that benchmarks/views.py compares: ssl_lib, torchvision, lightly and kornia.

A pipeline is a function without arguments that makes views and returns their number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from ssl_lib import Loader, Method, Progress, ViewPipeline, views
from ssl_lib.data import FolderData
from ssl_lib.utils.precision import Precision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Run = Callable[[], int]


def simclr_views(size: int, blur: bool) -> list[views.ViewConfig]:
    """SimCLR's two views for ssl_lib."""
    change = {} if blur else {"blur_p": 0.0}
    return [views.ViewConfig(count=2, size=size, interpolation="bicubic", jitter=(0.8, 0.8, 0.8, 0.2), **change)]


def from_memory(size: int, source: int, count: int, blur: bool, device: torch.device) -> dict[str, Run]:
    """Pipelines that make SimCLR's two views of one batch of random pixels."""
    images = torch.randint(256, (count, 3, source, source), dtype=torch.uint8).to(device)
    images = images.contiguous(memory_format=torch.channels_last)  # as data sets store them
    runs = {**_ssl_lib(simclr_views(size, blur), images), "torchvision": _torchvision(images, size, blur)}
    return {**runs, **(_lightly if device.type == "cpu" else _kornia)(images, size, blur)}


def from_files(folder: Path, workers: int, batch: int) -> dict[str, Run]:
    """Pipelines that make the views of JPEG files in the disk cache; each run is an epoch."""
    data = FolderData(folder)
    loader = Loader(data, ViewPipeline(simclr_views(224, True), MEAN, STD), batch, workers=workers)

    def ssl_lib() -> int:
        return sum(len(view) for step in loader.epoch(0) for view in loader.views(step.images).large)

    return {"ssl_lib": ssl_lib, **_lightly_from_files(data, workers, batch)}


def with_training_step(
    method: Method, optimizer: torch.optim.Optimizer, configs: list[views.ViewConfig], count: int, device: torch.device
) -> dict[str, Run]:
    """The pipelines of ssl_lib for one batch, and a training step on such views."""
    images = torch.randint(256, (count, 3, 256, 256), dtype=torch.uint8).to(device)
    batch_views = ViewPipeline(configs, MEAN, STD)(images)
    precision = Precision.resolve("auto", device)
    method.to(device, memory_format=torch.channels_last).train()

    def step() -> int:
        with precision.autocast():
            loss = method(batch_views, Progress(0, 100, 1)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return len(batch_views.large + batch_views.small) * count

    return {**_ssl_lib(configs, images), "training step": step}


def _ssl_lib(configs: list[views.ViewConfig], images: Tensor) -> dict[str, Run]:
    """The pipeline of ssl_lib; on CUDA also with compiled colors."""

    def run(pipeline: ViewPipeline) -> int:
        batch_views = pipeline(images)
        batch_views.large[0].sum().item()  # waits for a GPU
        return len(pipeline.views) * len(images)

    plain, compiled = (ViewPipeline(configs, MEAN, STD) for _ in range(2))
    compiled.compile()
    pipelines = {"ssl_lib": plain, "ssl_lib compiled": compiled} if images.is_cuda else {"ssl_lib": plain}
    return {name: partial(run, pipeline) for name, pipeline in pipelines.items()}


def _torchvision(images: Tensor, size: int, blur: bool) -> Run:
    blurring = [v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1)], p=0.5)] if blur else []
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            *blurring,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def run() -> int:
        pair = [torch.stack([transform(image) for image in images]) for _ in range(2)]
        pair[0].sum().item()
        return 2 * len(images)

    return run


def _lightly(images: Tensor, size: int, blur: bool) -> dict[str, Run]:
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        return {}
    transform = SimCLRTransform(input_size=size, gaussian_blur=0.5 if blur else 0.0)
    pictures = [to_pil_image(image) for image in images]

    def run() -> int:
        for picture in pictures:
            transform(picture)
        return 2 * len(pictures)

    return {"lightly": run}


def _kornia(images: Tensor, size: int, blur: bool) -> dict[str, Run]:
    try:
        from kornia import augmentation as k
    except ImportError:
        return {}
    taps = 2 * (size // 20) + 1
    transform = k.AugmentationSequential(
        k.RandomResizedCrop((size, size), resample="bicubic"),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        k.RandomGrayscale(p=0.2),
        *([k.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=0.5)] if blur else []),
        k.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )

    def run() -> int:
        pair = [transform(images.float() / 255) for _ in range(2)]
        pair[0].sum().item()
        return 2 * len(images)

    return {"kornia": run}


def _lightly_from_files(data: FolderData, workers: int, batch: int) -> dict[str, Run]:
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        return {}
    transform = SimCLRTransform(input_size=224)

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> list[Tensor]:
            with Image.open(data.path(index)) as image:
                return transform(image.convert("RGB"))

    loader = torch.utils.data.DataLoader(
        Files(), batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )

    def run() -> int:
        return sum(len(view) for pair in loader for view in pair)

    return {"lightly": run}
