"""Compares the number of views per second of ssl_lib, lightly and torchvision, from memory and from JPEG files.

All pipelines make SimCLR's two views of the same images. They take turns in every round, and a ratio compares two
pipelines within one round.
  32      32 x 32 color images, no blur, one thread
  224     224 from 256 x 256, with blur, one thread
  jpeg    224 from JPEG files of 500 x 375 through the whole loader, two workers
  simclr  SimCLR's views of 256 images, compared with a training step of ResNet-50 on as many prepared images
  dino    DINO's two large and eight small views of 64 images, compared with a training step of ViT-S/16
On CUDA the pipelines are ssl_lib, plain and compiled, torchvision image by image on the GPU, and kornia if it is
installed. The last two cases are for CUDA; on a CPU they run only if --cases names them.

Run it with: python benchmarks/views.py [--cases 32 224 jpeg] [--device cpu] [--json views.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.optim import AdamW
from view_pipelines import Run, from_files, from_memory, simclr_views, with_training_step

from ssl_lib import BACKBONES, DINO, LARS, SimCLR, views


def write_jpegs(folder: Path, count: int) -> None:
    """Writes files of 500 x 375 pixels with as much detail as a photograph: noise at many scales."""
    generator = np.random.default_rng(0)
    for index in range(count):
        picture = np.zeros((375, 500, 3))
        for octave in range(2, 9):
            noise = generator.uniform(0, 255, (-(-375 // 2 ** (8 - octave)), -(-500 // 2 ** (8 - octave)), 3))
            layer = Image.fromarray(noise.astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
            picture += np.asarray(layer, dtype=np.float64) / 2 ** (octave - 1)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{index:04d}.jpg", quality=90)


def make_cases(names: Sequence[str], device: torch.device) -> Iterator[tuple[str, dict[str, Run]]]:
    """Yields each requested case with its pipelines."""
    if "32" in names:
        yield "32", from_memory(32, 32, 256, blur=False, device=device)
    if "224" in names:
        yield "224", from_memory(224, 256, 256 if device.type == "cuda" else 32, blur=True, device=device)
    if "jpeg" in names and device.type == "cpu":
        with tempfile.TemporaryDirectory() as folder:
            write_jpegs(Path(folder), 256)
            yield "jpeg", from_files(Path(folder), workers=2, batch=32)
    if "simclr" in names:
        simclr, configs = SimCLR(BACKBONES["resnet50"]()), simclr_views(224, True)
        yield "simclr", with_training_step(simclr, LARS(simclr.param_groups(1e-6), lr=0.3), configs, 256, device)
    if "dino" in names:
        dino, configs = DINO(BACKBONES["vit_small"](patch_size=16)), views.presets.dino()
        yield "dino", with_training_step(dino, AdamW(dino.param_groups(0.04), lr=5e-4), configs, 64, device)


def measure(case: str, runs: dict[str, Run], rounds: int) -> Iterator[dict[str, Any]]:
    """Yields one row per pipeline: its median speed, and the ratio of ssl_lib's speed to it."""
    torch.set_num_threads(1)
    for run in runs.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            speeds[name].append(run() / (time.perf_counter() - start))
    for name, values in speeds.items():
        ratios = [reference / value for reference, value in zip(speeds["ssl_lib"], values, strict=True)]
        yield {
            "case": case,
            "contender": name,
            "views_per_second": statistics.median(values),
            "ours_is": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
        }


def main() -> None:
    """Prints the median views per second over the rounds, and ssl_lib's speed relative to each pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["32", "224", "jpeg", "simclr", "dino"]
    default = names if torch.cuda.is_available() else names[:3]
    parser.add_argument("--cases", nargs="+", default=default, choices=names)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)

    rows = []
    print("| case | pipeline | views/s | speed of ssl_lib | range over the rounds |\n|---|---|---|---|---|")
    for case, runs in make_cases(options.cases, device):
        for row in measure(case, runs, options.rounds):
            rows.append(row)
            name, speed, ratio, (low, high) = row["contender"], row["views_per_second"], row["ours_is"], row["range"]
            print(f"| {case} | {name} | {speed:.0f} | {ratio:.2f} times | {low:.2f} to {high:.2f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"device": str(device), "torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
