"""Compares time and peak memory of NT-Xent, forward and backward on the CPU, in ssl_lib and lightly.

    pip install lightly
    python benchmarks/ntxent.py

Every run has its own process, so that the peak memory is that run's. The table shows medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn


def build(name: str, chunk_size: int) -> nn.Module:
    """Creates the loss: `chunks` or `whole` for ssl_lib's, `lightly` for lightly's."""
    if name == "lightly":
        from lightly.loss import NTXentLoss as LightlyNTXentLoss

        return LightlyNTXentLoss(temperature=0.1)
    from ssl_lib.losses import NTXentLoss

    return NTXentLoss(temperature=0.1, chunk_size=chunk_size if name == "chunks" else None)


def step(loss: nn.Module, batch: int, dim: int) -> float:
    """Runs one forward and backward pass; returns the loss."""
    z_a, z_b = torch.randn(2, batch, dim, generator=torch.Generator().manual_seed(0))
    value = loss(z_a.requires_grad_(), z_b.requires_grad_())
    value.backward()
    return float(value.detach())


def measure(name: str, batch: int, dim: int, chunk_size: int) -> dict[str, float]:
    """Measures one run: seconds, peak memory in MiB above the peak of a small run, and the loss."""
    loss = build(name, chunk_size)
    step(loss, 64, dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    value = step(loss, batch, dim)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB on Linux
    return {"seconds": seconds, "mib": peak / 1024, "loss": value}


def main() -> None:
    """Runs the implementations in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--chunk-size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--one", choices=["chunks", "whole", "lightly"], help="run one implementation once and print JSON"
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.batch, args.dim, args.chunk_size)))
        return

    runs: dict[str, list[dict[str, float]]] = {"lightly": [], "whole": [], "chunks": []}
    for _ in range(args.repeats):
        for name, results in runs.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results.append(json.loads(output))
    medians = {
        name: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for name, results in runs.items()
    }
    print(f"N = {args.batch}, D = {args.dim}, chunk_size = {args.chunk_size}, {torch.get_num_threads()} threads")
    print(f"torch {torch.__version__}, median of {args.repeats} runs\n")
    print("| NT-Xent | seconds | ratio to lightly | peak MiB | ratio to lightly | loss |")
    print("|---|---|---|---|---|---|")
    base = medians["lightly"]
    for name, m in medians.items():
        time_ratio, memory_ratio = m["seconds"] / base["seconds"], m["mib"] / base["mib"]
        cells = name, f"{m['seconds']:.2f}", f"{time_ratio:.2f}", f"{m['mib']:.0f}", f"{memory_ratio:.3f}"
        print("|", " | ".join(cells), "|", f"{m['loss']:.6f} |")


if __name__ == "__main__":
    main()
