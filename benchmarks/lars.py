"""Compares the time of one LARS step over ResNet-50's parameters in ssl_lib and lightly.

    python benchmarks/lars.py [--device cuda] [--rounds 30]

The two optimizers step in turn. Prints the median of each in milliseconds, and their ratio: below 1, ssl_lib is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.optim import Optimizer
from torchvision.models import resnet50

from ssl_lib.optim import LARS, param_groups

try:
    from lightly.utils.lars import LARS as LightlyLARS
except ImportError as error:
    raise SystemExit("this benchmark compares with lightly: pip install lightly") from error


def make_optimizer(optimizer_class: type[Optimizer], device: torch.device) -> Optimizer:
    """Creates an optimizer over a ResNet-50 with random gradients.

    lightly does not adapt the groups whose weight decay is 0.
    """
    torch.manual_seed(0)
    model = resnet50().to(device=device, memory_format=torch.channels_last)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter).mul_(1e-3)
    return optimizer_class(param_groups(model, weight_decay=1e-6), lr=0.1, momentum=0.9)


def time_step(optimizer: Optimizer, device: torch.device) -> float:
    """Time of one step, including the work on the device."""
    start = time.perf_counter()
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--rounds", type=int, default=30, help="timed steps of each optimizer, after 3 warmup steps")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    optimizers = {"ssl_lib": make_optimizer(LARS, device), "lightly": make_optimizer(LightlyLARS, device)}
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(arguments.rounds + 3):
        for name, optimizer in optimizers.items():
            times[name].append(time_step(optimizer, device))
    medians = {name: 1e3 * statistics.median(values[3:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:8} {median:8.2f} ms per step (median of {arguments.rounds}, {device})")
    print(f"ratio    {medians['ssl_lib'] / medians['lightly']:8.2f}")


if __name__ == "__main__":
    main()
