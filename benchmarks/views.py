"""How many views a second, beside lightly's and torchvision's transforms: from memory, and from JPEG files.

All contenders make SimCLR's two views of the same images, in turn, round after round; a ratio is that of one round.
  32      32 x 32 color images, no blur, one thread
  224     224 from 256 x 256, with blur, one thread
  jpeg    224 from JPEG files of 500 x 375 through the whole loader, two workers
  simclr  SimCLR's views of 256 images, beside a training step of ResNet-50 on as many ready ones
  dino    DINO's two large and eight small views of 64 images, beside a training step of ViT-S/16
On CUDA the contenders are the pipeline, plain and compiled, torchvision image by image on the card, and kornia where it
is installed. The last two cases are for CUDA; on a CPU they run when asked for.

Run it with: python benchmarks/views.py [--cases 32 224 jpeg] [--device cpu] [--json views.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.optim import AdamW
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from ssl_lib import BACKBONES, DINO, LARS, Loader, Method, SimCLR, ViewPipeline, views
from ssl_lib.data import FolderData
from ssl_lib.types import Progress
from ssl_lib.utils.precision import Precision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Run = Callable[[], int]


def torchvision_transform(size: int, blur: bool) -> v2.Compose:
    """SimCLR's view as torchvision's users write it."""
    blurring = [v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1)], p=0.5)] if blur else []
    return v2.Compose(
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


def preset(size: int, blur: bool) -> list[views.ViewConfig]:
    """The same view as ours."""
    change = {} if blur else {"blur_p": 0.0}
    return [views.ViewConfig(count=2, size=size, interpolation="bicubic", jitter=(0.8, 0.8, 0.8, 0.2), **change)]


def pipelines(configs: list[views.ViewConfig], images: Tensor) -> dict[str, Run]:
    """Ours; on CUDA also with the colors compiled."""

    def run(pipeline: ViewPipeline) -> int:
        made = pipeline(images)
        made.large[0].sum().item()  # waits for a GPU
        return len(pipeline.views) * len(images)

    plain, compiled = (ViewPipeline(configs, MEAN, STD) for _ in range(2))
    compiled.compile()
    runs = {"ssl_lib": plain, "ssl_lib compiled": compiled} if images.is_cuda else {"ssl_lib": plain}
    return {name: partial(run, pipeline) for name, pipeline in runs.items()}


def beside_a_step(
    method: Method, optimizer: torch.optim.Optimizer, configs: list[views.ViewConfig], count: int, device: torch.device
) -> dict[str, Run]:
    """Views of one batch, and a training step on such views."""
    images = torch.randint(256, (count, 3, 256, 256), dtype=torch.uint8).to(device)
    made = ViewPipeline(configs, MEAN, STD)(images)
    precision = Precision.resolve("auto", device)
    method.to(device, memory_format=torch.channels_last).train()

    def step() -> int:
        with precision.autocast():
            loss = method(made, Progress(0, 100, 1)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return len(made.large + made.small) * count

    return {**pipelines(configs, images), "training step": step}


def from_memory(size: int, source: int, count: int, blur: bool, device: torch.device) -> dict[str, Run]:
    """Views of one batch of random pixels; each run returns the number of views it made."""
    images = torch.randint(256, (count, 3, source, source), dtype=torch.uint8).to(device)
    images = images.contiguous(memory_format=torch.channels_last)  # as data sets hold them
    single = torchvision_transform(size, blur)

    def torchvision() -> int:
        made = [torch.stack([single(image) for image in images]) for _ in range(2)]
        made[0].sum().item()
        return 2 * count

    runs = {**pipelines(preset(size, blur), images), "torchvision": torchvision}
    if device.type == "cpu":
        runs |= _lightly(images, size, blur)
    else:
        runs |= _kornia(images, size, blur)
    return runs


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
        made = [transform(images.float() / 255) for _ in range(2)]
        made[0].sum().item()
        return 2 * len(images)

    return {"kornia": run}


def from_files(folder: Path, workers: int, batch: int) -> dict[str, Run]:
    """Views of JPEG files, from the disk's cache to ready batches; each run is an epoch."""
    data = FolderData(folder)
    loader = Loader(data, ViewPipeline(preset(224, True), MEAN, STD), batch, workers=workers)

    def ours() -> int:
        count = 0
        for step in loader.epoch(0):
            count += sum(len(view) for view in loader.views(step.images).large)
        return count

    runs: dict[str, Run] = {"ssl_lib": ours}
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        return runs

    transform = SimCLRTransform(input_size=224)

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> list[Tensor]:
            with Image.open(data.path(index)) as image:
                return transform(image.convert("RGB"))

    theirs = torch.utils.data.DataLoader(
        Files(), batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )

    def lightly() -> int:
        return sum(len(view) for pair in theirs for view in pair)

    return {**runs, "lightly": lightly}


def write_jpegs(folder: Path, count: int) -> None:
    """Files of 500 x 375 pixels with the detail of a photograph: noise at many scales."""
    generator = np.random.default_rng(0)
    for index in range(count):
        picture = np.zeros((375, 500, 3))
        for octave in range(2, 9):
            noise = generator.uniform(0, 255, (-(-375 // 2 ** (8 - octave)), -(-500 // 2 ** (8 - octave)), 3))
            layer = Image.fromarray(noise.astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
            picture += np.asarray(layer, dtype=np.float64) / 2 ** (octave - 1)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{index:04d}.jpg", quality=90)


def cases(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, dict[str, Run]]]:
    """The contenders of each case that was asked for."""
    if "32" in options.cases:
        yield "32", from_memory(32, 32, 256, blur=False, device=device)
    if "224" in options.cases:
        yield "224", from_memory(224, 256, 256 if device.type == "cuda" else 32, blur=True, device=device)
    if "jpeg" in options.cases and device.type == "cpu":
        with tempfile.TemporaryDirectory() as folder:
            write_jpegs(Path(folder), 256)
            yield "jpeg", from_files(Path(folder), workers=2, batch=32)
    if "simclr" in options.cases:
        simclr = SimCLR(BACKBONES["resnet50"]())
        yield "simclr", beside_a_step(simclr, LARS(simclr.param_groups(1e-6), lr=0.3), preset(224, True), 256, device)
    if "dino" in options.cases:
        dino = DINO(BACKBONES["vit_small"](patch_size=16))
        yield "dino", beside_a_step(dino, AdamW(dino.param_groups(0.04), lr=5e-4), views.presets.dino(), 64, device)


def main() -> None:
    """Prints views a second (medians over the rounds), and how many times those of each peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["32", "224", "jpeg", "simclr", "dino"]
    default = names if torch.cuda.is_available() else names[:3]
    parser.add_argument("--cases", nargs="+", default=default, choices=names)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)

    rows = []
    print("| case | contender | views/s | ours is | rounds |\n|---|---|---|---|---|")
    for name, runs in cases(options, device):
        torch.set_num_threads(1)
        for run in runs.values():
            run()
        speeds: dict[str, list[float]] = {contender: [] for contender in runs}
        for _ in range(options.rounds):
            for contender, run in runs.items():
                start = time.perf_counter()
                speeds[contender].append(run() / (time.perf_counter() - start))
        for contender, values in speeds.items():
            ratios = [ours / theirs for ours, theirs in zip(speeds["ssl_lib"], values, strict=True)]
            row = {
                "case": name,
                "contender": contender,
                "views_per_second": statistics.median(values),
                "ours_is": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
            }
            rows.append(row)
            print(f"| {name} | {contender} | {row['views_per_second']:.0f} | {row['ours_is']:.2f} times "
                  f"| {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"device": str(device), "torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
