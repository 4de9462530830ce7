"""Short training runs on a subset of the bundled Fashion-MNIST, with helpers to misconfigure them."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ssl_lib import Loader, Method, Progress, Schedule, StepOutput, Trainer, ViewPipeline, Views
from ssl_lib.data import ArrayData
from ssl_lib.data.datasets.fashion_mnist import EMBEDDED
from ssl_lib.doctor import Finding
from ssl_lib.heads import mlp
from ssl_lib.registry import OPTIMIZERS, PRESETS
from ssl_lib.training.callbacks import Callback, Diagnosis
from tests.conftest import TinyBackbone, small_method

GENTLE = {"crop_scale": (0.4, 1.0), "crop_ratio": (0.85, 1.18)}
NONE = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip_p": 0.0,
    "jitter_p": 0.0,
    "grayscale_p": 0.0,
    "blur_p": 0.0,
    "solarize_p": 0.0,
}
FAR_TOO_STRONG = {"crop_scale": (0.005, 0.02), "jitter": (0.9, 0.9, 0.9, 0.5), "jitter_p": 1.0, "solarize_p": 0.5}


class Attract(Method):
    """Attracts two views without a stop-gradient, a predictor or anything else that prevents collapse."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TinyBackbone()
        self.projector = mlp([16, 64, 32])

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        z_a, z_b = (self.projector(self.backbone(view)) for view in views.large)
        return StepOutput(self.compare(z_a, z_b), embeddings=z_a.detach(), embeddings_b=z_b.detach())

    def compare(self, z_a: torch.Tensor, z_b: torch.Tensor) -> torch.Tensor:
        return 1 - F.cosine_similarity(z_a, z_b).mean()


class Lengthen(Attract):
    """Uses a dot product instead of a cosine, so longer embeddings always decrease the loss."""

    def compare(self, z_a: torch.Tensor, z_b: torch.Tensor) -> torch.Tensor:
        return -(z_a * z_b).sum(1).mean()


@functools.cache
def clothes(count: int) -> ArrayData:
    with np.load(EMBEDDED, allow_pickle=False) as file:
        return ArrayData(file["images"][:count], file["labels"][:count], mean=(0.286,), std=(0.353,))


def small(name: str, **arguments: object) -> Method:
    """A method with small heads; the teacher momenta of DINO and BYOL suit runs of about sixty updates."""
    defaults: dict[str, dict[str, object]] = {
        "simclr": {"temperature": 0.2},
        "byol": {"momentum": 0.98},
        "dino": {"momentum": 0.95, "freeze_prototypes": 0},
    }
    return small_method(name, **{"hidden_dim": 64, **defaults.get(name, {}), **arguments})


def findings_of(
    method: Method,
    *,
    preset: str = "byol",
    changes: dict[str, object] = GENTLE,
    epochs: float = 4,
    lr: float = 2e-3,
    optimizer: str = "adamw",
    log_every: int = 5,
    batch_size: int = 64,
    images: ArrayData | None = None,
    folder: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> list[Finding]:
    """Trains, by default on 1,024 images, and returns the findings of the callback `Diagnosis` in the first process."""
    images = images or clothes(1024)
    configs = [dataclasses.replace(view, **changes) for view in PRESETS[preset](size=16)]
    loader = Loader(images, ViewPipeline(configs, images.mean, images.std), batch_size=batch_size)
    built_optimizer = OPTIMIZERS[optimizer](method.param_groups(1e-4), lr=lr * 256 / batch_size)
    diagnosis = Diagnosis(folder)
    trainer = Trainer(callbacks=[*callbacks, diagnosis], device="cpu", precision="fp32", log_every=log_every)
    trainer.fit(method, loader, built_optimizer, Schedule(epochs=epochs, warmup_epochs=0.2))
    return diagnosis.findings


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]
