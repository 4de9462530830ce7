"""A small valid config, and a function that writes it to a file."""

from __future__ import annotations

from pathlib import Path

GOOD = {
    "data": {"name": "fashion_mnist_mini"},
    "backbone": {"name": "resnet_tiny"},
    "method": {"name": "simclr", "temperature": 0.2},
    "views": {"preset": "simclr", "size": 28},
    "optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1.0e-4},
    "schedule": {"epochs": 2},
}


def write_config(folder: Path, text: str) -> Path:
    """Writes `run.yaml`."""
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path
