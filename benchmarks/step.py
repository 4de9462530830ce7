"""Compares the training throughput of ssl_lib's Trainer, a bare step without data loading, and a lightly loop.

All three train SimCLR with the same backbone, projector and optimizer, and take turns in every round:
  bare     forward, backward and optimizer step on views that are already in memory
  ssl_lib  the Trainer, from uint8 images to the updated weights
  lightly  lightly's SimCLR transform in two worker processes, lightly's loss, a plain loop

Run it with: python benchmarks/step.py [--backbone resnet_tiny] [--size 32] [--batch 256] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from ssl_lib import BACKBONES, LARS, Loader, Progress, Schedule, SimCLR, Trainer, ViewPipeline, Views, views
from ssl_lib.data import ArrayData
from ssl_lib.utils.precision import Precision, resolve_device


def make_method(options: argparse.Namespace) -> SimCLR:
    """Creates the method that all implementations train."""
    stem = {"stem": "small"} if options.backbone in ("resnet18", "resnet50") and options.size <= 64 else {}
    return SimCLR(BACKBONES[options.backbone](in_channels=3, **stem), hidden_dim=256)


def bare(options: argparse.Namespace, data: ArrayData, precision: Precision) -> Callable[[], float]:
    """Trains on views that are already in memory."""
    method = make_method(options).to(device=precision.device, memory_format=torch.channels_last).train()
    optimizer, scaler = LARS(method.param_groups(1e-4), lr=0.3), precision.scaler()
    pipeline = ViewPipeline(views.presets.simclr(options.size), data.mean, data.std)
    large = pipeline(data.gather(torch.arange(options.batch)).to(precision.device)).large
    batch = Views(tuple(view.contiguous(memory_format=torch.channels_last) for view in large))

    def run() -> float:
        start = time.perf_counter()
        for _ in range(options.steps):
            with precision.autocast():
                loss = method(batch, Progress(0, 1, 1)).loss
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        loss.item()
        return options.steps * options.batch / (time.perf_counter() - start)

    return run


def with_trainer(options: argparse.Namespace, data: ArrayData, precision: Precision) -> Callable[[], float]:
    """Trains with the Trainer."""
    method = make_method(options)
    pipeline = ViewPipeline(views.presets.simclr(options.size), data.mean, data.std)
    loader = Loader(data, pipeline, options.batch)
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    trainer = Trainer(device=options.device, precision=precision.name, callbacks=[])
    schedule = Schedule(epochs=options.steps / loader.steps_per_epoch)

    def run() -> float:
        start = time.perf_counter()
        trainer.fit(method, loader, optimizer, schedule)
        return options.steps * options.batch / (time.perf_counter() - start)

    return run


def lightly(options: argparse.Namespace, data: ArrayData, precision: Precision) -> Callable[[], float]:
    """Trains with lightly's transform, loss and a plain loop."""
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image

    transform = SimCLRTransform(input_size=options.size)

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> list[torch.Tensor]:
            return transform(to_pil_image(data.read(index)))

    method = make_method(options).to(precision.device).train()
    network = nn.Sequential(method.backbone, method.projector)
    optimizer, scaler, loss_function = LARS(method.param_groups(1e-4), lr=0.3), precision.scaler(), NTXentLoss(0.1)
    loader = torch.utils.data.DataLoader(
        Images(), options.batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )

    def run() -> float:
        start = time.perf_counter()
        for step, pair in enumerate(loader):
            with precision.autocast():
                z_a, z_b = (network(view.to(precision.device, non_blocking=True)) for view in pair)
                loss = loss_function(z_a, z_b)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if step + 1 == options.steps:
                break
        loss.item()
        return options.steps * options.batch / (time.perf_counter() - start)

    return run


def main() -> None:
    """Prints the median throughput over the rounds, and the ratio to the bare step of the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet_tiny")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=12, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()

    precision = Precision.resolve(options.precision, resolve_device(options.device))
    torch.manual_seed(0)
    shape = (options.batch * options.steps, 3, options.size, options.size)
    data = ArrayData(torch.randint(256, shape, dtype=torch.uint8), mean=(0.5,) * 3, std=(0.25,) * 3)
    implementations = {"bare": bare, "ssl_lib": with_trainer}
    try:
        import lightly as _lightly  # noqa: F401

        implementations["lightly"] = lightly
    except ImportError:
        print("lightly is not installed; to include it in the comparison: pip install lightly")
    runs = {name: make(options, data, precision) for name, make in implementations.items()}
    for run in runs.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            speeds[name].append(run())

    print(
        f"{options.backbone}, {options.size} px, batch {options.batch}, {precision.name} on {precision.device}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds of {options.steps} steps"
    )
    for name, values in speeds.items():
        ratios = [value / base for value, base in zip(values, speeds["bare"], strict=True)]
        print(
            f"{name:<8} {statistics.median(values):8.0f} images/s   {statistics.median(ratios):.2f} of the bare step "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
