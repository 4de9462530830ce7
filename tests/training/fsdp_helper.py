"""What every process of the FSDP2 tests computes: training, resuming, and errors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_lib import LARS, Loader, Method, Schedule, Trainer, ViewPipeline
from ssl_lib.backbones.vit import VisionTransformer
from ssl_lib.data import ArrayData
from ssl_lib.distributed import barrier, is_distributed, local, rank, world_size
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.evaluation import KNN, Evaluator, FineTune, extract_features
from ssl_lib.training.callbacks import Callback, Evaluation
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.fsdp import gathered, whole
from tests.conftest import TinyBackbone, images_for, pattern_images, small_method, small_views
from tests.training.helpers import DoubleViews, InterruptAfter

CASES: dict[str, dict[str, Any]] = {
    "simclr": {},
    "dino": {"adamw": True},
    "byol": {"accumulate": 2},
    "deepcluster_v2": {"backbone": TinyBackbone},
    "moco_v2": {"accumulate": 2},
    "swav": {"adamw": True},
    "simclr exact": {"accumulate": 2, "exact": True},
    "simclr with batchnorm": {"backbone": TinyBackbone, "clip_norm": 0.1, "clip_per_parameter": True},
    "byol clipped": {"clip_norm": 0.1},
    "deepcluster": {"adamw": True},
    "sela": {"adamw": True},
    "dino in fp32": {"double": False},
    "dino in bf16": {"double": False, "precision": "bf16"},
}


def compute_all(folder: Path, compared: int) -> dict[str, Tensor]:
    """All results of this process that the tests compare; groups other than `compared` only start runs."""
    here = folder / str(world_size())
    change_strategy_and_size(folder, here)
    if world_size() != compared:
        return {}
    results = {f"{case} {key}": value for case in CASES for key, value in train(case).items()}
    resume(here)
    check_errors()
    return results


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(64, depth=2, patch_size=8, image_size=16, in_channels=1)


class Features(Callback):
    """Extracts features after the first update, of a number of images that the processes do not divide."""

    every_rank = True

    def on_update(self, state) -> None:
        if state.step == 1:
            images = pattern_images()
            some = torch.arange(13)
            part = ArrayData(images.gather(some), images.labels[some], images.class_names, images.mean, images.std)
            with whole(state.model, state.method.encoder):
                self.features, _ = extract_features(state.method.encoder, part, batch_size=2)


def train(case: str, strategy: str = "fsdp2") -> dict[str, Tensor]:
    """Trains three updates; returns the final state and the gradients of the first update."""
    options = {"backbone": vit, "double": True, "adamw": False, **CASES[case]}
    gradients: list[Tensor] = []

    def record_gradient(optimizer, *_) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        own = [p.grad for p in parameters if p.grad is not None]
        gradients.append(torch.cat([(g.full_tensor() if isinstance(g, DTensor) else g).flatten() for g in own]))

    name = case.split()[0]
    images = images_for(name)
    views = (DoubleViews if options["double"] else ViewPipeline)(small_views(name), images.mean, images.std)
    loader = Loader(images, views, batch_size=16)
    torch.manual_seed(0)  # of the backbone
    method = small_method(name, options["backbone"]())
    if options["double"]:
        method.double()
    if rank() != 0:  # must be replaced by the weights of the first process
        nn.init.normal_(next(method.parameters()))
    callbacks = [] if options["double"] else [Features()]
    passed = {key: options[key] for key in ("accumulate", "exact", "clip_norm", "clip_per_parameter") if key in options}
    precision = options.get("precision", "fp32")
    trainer = Trainer(device="cpu", precision=precision, strategy=strategy, callbacks=callbacks, **passed)
    groups = method.param_groups(1e-4)
    optimizer = torch.optim.AdamW(groups, lr=1e-3) if options["adamw"] else LARS(groups, lr=0.5)
    optimizer.register_step_pre_hook(record_gradient)
    trainer.fit(method, loader, optimizer, Schedule(epochs=3 / loader.steps_per_epoch))
    if is_distributed():
        check_sharded(method, optimizer)
    features = {f"features {index}": callback.features for index, callback in enumerate(callbacks)}
    return {"gradient": gradients[0], **features, **gathered(method.state_dict())}


def check_sharded(method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Asserts that weights, also the teacher's, and optimizer state are spread evenly over the processes."""
    momenta = [value for entry in optimizer.state.values() for value in entry.values() if value.ndim]
    for tensors in (list(method.parameters()), momenta):
        assert all(isinstance(tensor, DTensor) for tensor in tensors)
        fraction = sum(local(tensor).numel() for tensor in tensors) / sum(tensor.numel() for tensor in tensors)
        assert abs(fraction - 1 / world_size()) < 0.1, fraction


def fit(folder: Path, strategy: str, after: int | None = None, resume: bool = False, dropout: float = 0.0) -> None:
    """Trains two epochs of three updates in float64, or interrupts the run after some updates."""
    images = pattern_images()
    torch.manual_seed(rank())
    method = small_method("byol", vit())
    method.projector.append(nn.Dropout(dropout))
    method.double()
    loader = Loader(images, DoubleViews(small_views("byol"), images.mean, images.std), batch_size=32)
    trainer = Trainer(folder, device="cpu", precision="fp32", strategy=strategy)
    torch.manual_seed(10 + rank())
    arguments = (method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=2))
    if after is None:
        trainer.fit(*arguments, resume=resume)
        return
    trainer.callbacks = [*trainer.callbacks, InterruptAfter(after)]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*arguments, resume=resume)


def resume(folder: Path) -> None:
    """Trains an uninterrupted run, and one that is interrupted and resumed."""
    fit(folder / "uninterrupted", "fsdp2", dropout=0.5)
    fit(folder / "resumed", "fsdp2", after=4, dropout=0.5)
    fit(folder / "resumed", "fsdp2", resume=True, dropout=0.5)


def change_strategy_and_size(folder: Path, here: Path) -> None:
    """Resumes runs with another strategy or number of processes, in folders named "then ..."."""
    fit(here / "begun by fsdp2", "fsdp2", after=4)
    resume_copy(folder / "begun alone", here / "then fsdp2", "fsdp2")
    if world_size() == 4:
        fit(here / "begun by ddp", "ddp", after=4)
        resume_copy(here / "begun by ddp", here / "then fsdp2 again", "fsdp2")
        for strategy in ("ddp", "fsdp2"):
            resume_copy(folder / "2" / "begun by fsdp2", here / f"then {strategy} on more", strategy)


def resume_copy(begun: Path, folder: Path, strategy: str) -> None:
    if rank() == 0:
        shutil.copytree(begun, folder)
    barrier()
    fit(folder, strategy, resume=True)


def saved_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of method and optimizer in the last checkpoint."""
    saved = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert saved["step"] == 6
    entries = saved["optimizer"]["state"].items()
    return {**saved["method"], **{f"{i} {key}": value for i, entry in entries for key, value in entry.items()}}


class PoisonWeight(Callback):
    """Makes a weight NaN in the last process's shard, after the last update."""

    every_rank = True

    def on_update(self, state) -> None:
        if state.finished and rank() == world_size() - 1:
            local(state.method.backbone.blocks[0].mlp.fc1.weight).fill_(torch.nan)


def check_errors() -> None:
    """Asserts that errors are raised in all processes."""
    images = pattern_images()
    loader = Loader(images, ViewPipeline(small_views("simclr"), images.mean, images.std), batch_size=16)
    method = small_method("simclr", vit())
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(device="cpu", precision="fp32", strategy="fsdp2", callbacks=[PoisonWeight()])
    with pytest.raises(NonFiniteLossError, match="NaN"):
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    with pytest.raises(ValueError, match="not trained before"):
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    evaluator = Evaluator(images, images, [KNN(), FineTune()], random_encoder=vit())
    trainer.callbacks = [Evaluation(evaluator, every_epochs=1)]
    method = small_method("simclr", vit())
    with pytest.raises(ConfigError, match=r"evaluation\.finetune trains a copy .* `ssl-lib evaluate RUN finetune`"):
        trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=1))
