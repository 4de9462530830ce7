"""What every process of the DDP tests computes: training, batch normalization, resuming, evaluation and locks."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_lib import LARS, METHODS, CheckpointError, Loader, NonFiniteLossError, Schedule, Trainer, ViewPipeline
from ssl_lib.data import ArrayData, FolderData
from ssl_lib.distributed import barrier, gather_objects, gather_uneven, is_distributed, rank, share, world_size
from ssl_lib.evaluation import RawPixels, extract_features, knn_accuracy
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.run_lock import check_unlocked, run_lock
from ssl_lib.training.sync_batchnorm import SyncBatchNorm, synchronize_batchnorm
from tests.conftest import TinyBackbone, images_for, pattern_images, small_method, small_views
from tests.families import FAST
from tests.training.helpers import DoubleViews, InterruptAfter
from tests.training.nonfinite_helper import checking_late

ACCUMULATE = (1, 2)
OTHERS = [name for name in METHODS if name not in FAST]


def compute_all(folder: Path) -> dict[str, Tensor]:
    """All results of this process that the tests compare, but for the methods in `OTHERS`."""
    trained = train_all(FAST)
    trained |= {f"exact {key}": value for key, value in train("simclr", accumulate=2, exact=True).items()}
    own = folder / str(world_size())
    trained |= normalize(synchronized=True) | evaluate(folder / "images")
    return trained | resume(own) | stop_on_nan(own) | finish_late(own) | lock_twice(own)


def train_all(names: Sequence[str]) -> dict[str, Tensor]:
    """The results of `train` for some methods."""
    return {
        f"{name} {accumulate} {key}": value
        for name in names
        for accumulate in ACCUMULATE
        for key, value in train(name, accumulate).items()
    }


def train(name: str, accumulate: int, exact: bool = False) -> dict[str, Tensor]:
    """Trains three updates; returns the final state and the gradients of the first update."""
    gradients: list[Tensor] = []

    def record_gradient(optimizer, *_) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients.append(
            torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        )  # DINO's last layer is frozen at first

    images = images_for(name)
    loader = Loader(images, DoubleViews(small_views(name), images.mean, images.std), batch_size=16)
    torch.manual_seed(0)  # of the backbone
    method = small_method(name, TinyBackbone(norm=nn.GroupNorm(4, 16)) if exact else None).double()
    if rank() != 0:  # must be replaced by the weights of the first process
        nn.init.normal_(next(method.parameters()))
    trainer = Trainer(device="cpu", precision="fp32", callbacks=[], accumulate=accumulate, exact=exact)
    optimizer = LARS(method.param_groups(1e-4), lr=0.5)
    optimizer.register_step_pre_hook(record_gradient)
    trainer.fit(method, loader, optimizer, Schedule(epochs=3 / loader.steps_per_epoch))
    return {"gradient": gradients[0], **method.state_dict()}


def norms() -> dict[str, nn.Module]:
    return {
        "1d": nn.BatchNorm1d(3),
        "2d, cumulative": nn.BatchNorm2d(3, momentum=None),
        "3d, plain": nn.BatchNorm3d(3, affine=False),
        "2d, untracked": nn.BatchNorm2d(3, track_running_stats=False),
    }


def normalize(synchronized: bool) -> dict[str, Tensor]:
    """Two forward passes of this process's rows through each layer, the gradient of the second, the layer's state."""
    results = {}
    for case, norm in norms().items():
        layers = nn.ModuleList([norm.double()])
        if synchronized:
            synchronize_batchnorm(layers)
            assert type(layers[0]) is SyncBatchNorm and layers[0].weight is norm.weight
        layers[0](share(norm_input(case)) / 2)
        x = share(norm_input(case)).clone().requires_grad_()
        out = layers[0](x)
        (out.sin() * torch.linspace(-1, 1, out[0].numel(), dtype=torch.float64).view_as(out[0])).sum().backward()
        assert x.grad is not None
        tensors = {"out": out.detach(), "grad": x.grad, "eval": layers.eval()[0](norm_input(case)).detach()}
        results |= {f"{case} {key}": value for key, value in {**tensors, **layers[0].state_dict()}.items()}
    return results


def norm_input(case: str) -> Tensor:
    """Eight images with a mean far from zero."""
    shape = {"1d": (8, 3), "2d": (8, 3, 5, 4), "3d": (8, 3, 2, 3, 2)}[case[:2]]
    return 100 + 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def resume(folder: Path) -> dict[str, Tensor]:
    """States of an uninterrupted run, a resumed run, and a run resumed from a single process's checkpoint."""
    states = [fit_noisy(folder / "uninterrupted")]
    with pytest.raises(KeyboardInterrupt):
        fit_noisy(folder / "resumed", InterruptAfter(8))
    states.append(fit_noisy(folder / "resumed", resume=True))
    if is_distributed():
        with pytest.raises(KeyboardInterrupt):
            fit_noisy(folder / "from several", InterruptAfter(8), dropout=0.0)
    states.append(fit_noisy(folder / "from one", resume=True, dropout=0.0))
    names = ("uninterrupted", "resumed", "from one")
    return {f"{name} {key}": value for name, state in zip(names, states, strict=True) for key, value in state.items()}


def fit_noisy(folder: Path, *callbacks: Callback, resume: bool = False, dropout: float = 0.5) -> dict[str, Tensor]:
    """Trains two epochs of six updates with dropout; returns the state and a draw of the random generator."""
    images = pattern_images()
    torch.manual_seed(rank())
    method = small_method("byol")
    method.projector.append(nn.Dropout(dropout))
    method.double()
    loader = Loader(images, DoubleViews(small_views("byol"), images.mean, images.std), batch_size=16)
    trainer = Trainer(folder, device="cpu", precision="fp32", log_every=2)
    trainer.callbacks = [*trainer.callbacks, *callbacks]
    torch.manual_seed(10 + rank())
    trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=2), resume=resume)
    return {**method.state_dict(), "random": torch.rand(1)}


class WriteLate(Callback):
    """Writes a file some time after the last update, in the first process only, like a large checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_end(self, state) -> None:
        time.sleep(0.3)
        self.path.touch()


def finish_late(folder: Path) -> dict[str, Tensor]:
    """Whether the first process has finished writing when `fit` returns in this process."""
    images = pattern_images()
    loader = Loader(images, ViewPipeline(small_views("simclr"), images.mean, images.std), batch_size=32)
    method = small_method("simclr")
    trainer = Trainer(device="cpu", precision="fp32", callbacks=[WriteLate(folder / "written")])
    trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=1))
    return {"written": torch.tensor((folder / "written").exists())}


def lock_twice(folder: Path) -> dict[str, Tensor]:
    """Whether every process of the group that holds the lock is refused a second time."""
    with run_lock(folder), pytest.raises(CheckpointError, match=r"process \d+ on .* is training into"):
        check_unlocked(folder)
    check_unlocked(folder)
    return {"locked": torch.tensor(True)}


def write_images(folder: Path) -> None:
    """Writes six files. Those with odd indices are unreadable, so that one of two processes has no readable image."""
    folder.mkdir()
    for index in range(6):
        Image.new("L", (8, 8), 40 * index).save(folder / f"{index}.png")
        if index % 2:
            (folder / f"{index}.png").write_bytes(b"no image")


def evaluate(folder: Path) -> dict[str, Tensor]:
    """Features and kNN of sets whose size is not divisible by the processes, and of partly unreadable files."""
    images = pattern_images()
    files = FolderData(folder, channels=1, on_error="skip")
    read, _ = extract_features(RawPixels(), files, size=8, workers=0)
    results = {"files": read, "skipped": torch.tensor(len(files.skipped))}
    for count in (3, 13):
        some = torch.arange(count)
        part = ArrayData(images.gather(some), images.labels[some], images.class_names, images.mean, images.std)
        features, labels = extract_features(RawPixels(), part, batch_size=2)
        knn = knn_accuracy(*extract_features(RawPixels(), images), features, labels, num_classes=4, k=3)
        results |= {f"{count} features": features, f"{count} labels": labels, f"{count} knn": torch.tensor(knn)}
    return results | {"uneven": gather_uneven(torch.full((rank(), 2), float(rank())))}


def fit_with_nan(folder: Path) -> tuple[list[int], dict[str, object]]:
    """Trains with a NaN loss in the second process; returns that process's images and the content of the report."""
    own_images: list[int] = []

    class NaNInSecondProcess(METHODS["byol"]):
        def forward(self, views, progress):
            output = super().forward(views, progress)
            bad = rank() == 1 and progress.step == 1
            if bad:
                own_images.extend(views.indices.tolist())
            return dataclasses.replace(output, loss=output.loss * torch.nan) if bad else output

    images = pattern_images()
    method = NaNInSecondProcess(TinyBackbone(), hidden_dim=32, out_dim=16)
    loader = Loader(images, ViewPipeline(small_views("byol"), images.mean, images.std), batch_size=16)
    trainer = Trainer(folder, device="cpu", precision="fp32", log_every=2)
    with pytest.raises(NonFiniteLossError, match="loss became nan at step 1"):
        trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=1))
    barrier()
    return own_images, json.loads((folder / "nonfinite.json").read_text())


def stop_on_nan(folder: Path) -> dict[str, Tensor]:
    """Whether the report, written by the first process, has the images of the process whose loss became NaN."""
    results = {}
    for at_once in (True, False):
        with nullcontext() if at_once else checking_late():
            own_images, report = fit_with_nan(folder / f"nan {at_once}")
        everyone = [index for indices in gather_objects(own_images) for index in indices]
        results[f"nan {at_once}"] = torch.tensor([len(everyone) == 16 // world_size(), report["indices"] == everyone])
    return results
