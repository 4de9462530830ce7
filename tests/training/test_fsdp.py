"""Several processes that share one method's weights train what one does: in float64, to the last digits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_lib import LARS, Loader, Method, Schedule, Trainer, ViewPipeline
from ssl_lib.backbones.resnet import resnet18
from ssl_lib.backbones.vit import VisionTransformer
from ssl_lib.data import ArrayData
from ssl_lib.distributed import barrier, is_distributed, local, rank, world_size
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.evaluation import KNN, Evaluator, FineTune, extract_features
from ssl_lib.optim import clip_grad_per_parameter
from ssl_lib.training.callbacks import Callback, Evaluation
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.fsdp import OLDEST_TORCH, blocks, gathered, whole
from tests.conftest import TinyBackbone, pattern_images, small_method, small_views
from tests.distributed_helper import run_processes
from tests.training.test_ddp import DoubleViews, Stop

SUPPORTED = torch.__version__ >= OLDEST_TORCH
needs_torch = pytest.mark.skipif(not SUPPORTED, reason="the Trainer refuses fsdp2 with this torch")
CASES: dict[str, dict[str, Any]] = {
    "simclr": {},
    "dino": {"adamw": True},
    "byol": {"accumulate": 2},
    "simclr exact": {"accumulate": 2, "exact": True},
    "simclr with batchnorm": {"backbone": TinyBackbone, "clip": clip_grad_per_parameter},
    "byol clipped": {"clip": nn.utils.clip_grad_norm_},
    "dino in fp32": {"double": False},
    "dino in bf16": {"double": False, "precision": "bf16"},
}
TOLERANCES = {"dino in fp32": 1e-4, "dino in bf16": 0.1}


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(64, depth=2, patch_size=8, image_size=16, in_channels=1)


class Features(Callback):
    """The encoder's features of images that do not divide among the processes, after the first update."""

    every_rank = True

    def on_update(self, state) -> None:
        if state.step == 1:
            images = pattern_images()
            some = torch.arange(13)
            part = ArrayData(images.gather(some), images.labels[some], images.class_names, images.mean, images.std)
            with whole(state.model, state.method.encoder):
                self.features, _ = extract_features(state.method.encoder, part, batch_size=2)


def train(case: str, strategy: str = "fsdp2") -> dict[str, Tensor]:
    """Three updates of a method; its state after them, and the gradients of the first."""
    options = {"backbone": vit, "clip": None, "double": True, "adamw": False, **CASES[case]}
    gradients: list[Tensor] = []

    def note(parameters) -> None:
        parameters = list(parameters)
        own = [p.grad for p in parameters if p.grad is not None]
        if clip := options["clip"]:
            clip(iter(parameters), max_norm=0.1)
        gradients.append(torch.cat([(g.full_tensor() if isinstance(g, DTensor) else g).flatten() for g in own]))

    images, name = pattern_images(), case.split()[0]
    views = (DoubleViews if options["double"] else ViewPipeline)(small_views(name), images.mean, images.std)
    loader = Loader(images, views, batch_size=16)
    method = small_method(name, options["backbone"]())
    if options["double"]:
        method.double()
    if rank() != 0:  # the weights of the first process are what counts
        nn.init.normal_(next(method.parameters()))
    looks = [] if options["double"] else [Features()]
    kept = {key: options[key] for key in ("accumulate", "exact") if key in options}
    precision = options.get("precision", "fp32")
    trainer = Trainer(device="cpu", precision=precision, strategy=strategy, callbacks=looks, clip=note, **kept)
    groups = method.param_groups(1e-4)
    optimizer = torch.optim.AdamW(groups, lr=1e-3) if options["adamw"] else LARS(groups, lr=0.5)
    trainer.fit(method, loader, optimizer, Schedule(epochs=3 / loader.steps_per_epoch))
    if is_distributed():
        check_shares(method, optimizer)
    found = {f"features {index}": look.features for index, look in enumerate(looks)}
    return {"gradient": gradients[0], **found, **gathered(method.state_dict())}


def check_shares(method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Weights and momenta are spread over the processes, the teacher's too."""
    momenta = [value for entry in optimizer.state.values() for value in entry.values() if value.ndim]
    for tensors in (list(method.parameters()), momenta):
        assert all(isinstance(tensor, DTensor) for tensor in tensors)
        share = sum(local(tensor).numel() for tensor in tensors) / sum(tensor.numel() for tensor in tensors)
        assert abs(share - 1 / world_size()) < 0.1, share


def work(folder: Path, compared: int) -> dict[str, Tensor]:
    """All that is compared, in this process; a smaller group than that only begins runs for it."""
    here = folder / str(world_size())
    change_hands(folder, here)
    if world_size() != compared:
        return {}
    results = {f"{case} {key}": value for case in CASES for key, value in train(case).items()}
    resume(here)
    refuse()
    return results


@pytest.fixture(scope="module", params=[(2,), pytest.param((2, 4), marks=pytest.mark.slow)], ids=["2", "4"])
def results(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    fit(folder / "alone", "ddp")
    fit(folder / "begun alone", "ddp", after=4)
    results = run_processes(work, request.param, folder, folder, request.param[-1])
    return results[request.param[-1]][0] | {"folder": folder, "sizes": request.param}


@needs_torch
@pytest.mark.parametrize("case", CASES)
def test_processes_that_share_weights_train_as_one(results, case):
    for key, value in train(case, "ddp").items():
        error = (results[f"{case} {key}"].double() - value.double()).norm() / value.double().norm().clamp(min=1e-3)
        assert error <= TOLERANCES.get(case, 1e-8), f"{key}: {error:.1e} off"


def fit(folder: Path, strategy: str, after: int | None = None, resume: bool = False, dropout: float = 0.0) -> None:
    """Two epochs of three updates, or fewer of them, in float64."""
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
    trainer.callbacks = [*trainer.callbacks, Stop(after)]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*arguments, resume=resume)


def resume(folder: Path) -> None:
    """A run, and one that was broken off and resumed."""
    fit(folder / "unbroken", "fsdp2", dropout=0.5)
    fit(folder / "broken", "fsdp2", after=4, dropout=0.5)
    fit(folder / "broken", "fsdp2", resume=True, dropout=0.5)


@needs_torch
def test_a_resumed_run_is_the_unbroken_one(results):
    folder = results["folder"] / str(results["sizes"][-1])
    unbroken, broken = (tensors(folder / name) for name in ("unbroken", "broken"))
    assert unbroken.keys() == broken.keys() and len(unbroken) > 100
    for key, value in unbroken.items():
        assert torch.equal(value, broken[key]), key


def change_hands(folder: Path, here: Path) -> None:
    """Runs that one strategy, or number of processes, begins and another goes on with, into folders "then ..."."""
    fit(here / "begun by fsdp2", "fsdp2", after=4)
    go_on(folder / "begun alone", here / "then fsdp2", "fsdp2")
    if world_size() == 4:
        fit(here / "begun by ddp", "ddp", after=4)
        go_on(here / "begun by ddp", here / "then fsdp2 again", "fsdp2")
        for strategy in ("ddp", "fsdp2"):
            go_on(folder / "2" / "begun by fsdp2", here / f"then {strategy} on more", strategy)


def go_on(begun: Path, folder: Path, strategy: str) -> None:
    if rank() == 0:
        shutil.copytree(begun, folder)
    barrier()
    fit(folder, strategy, resume=True)


@needs_torch
def test_a_run_goes_on_under_another_strategy_and_number_of_processes(results, tmp_path):
    folder, alone = results["folder"], tensors(results["folder"] / "alone")
    for world in results["sizes"]:
        go_on(folder / str(world) / "begun by fsdp2", tmp_path / f"then alone {world}", "ddp")
    runs = [*folder.glob("*/then *"), *tmp_path.iterdir()]
    assert len(runs) == (2 if results["sizes"] == (2,) else 7)
    for run in runs:
        found = tensors(run)
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-11, msg=f"{run.name}: {key}")


def tensors(folder: Path) -> dict[str, Tensor]:
    """The method's and the optimizer's, as saved."""
    saved = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert saved["step"] == 6
    entries = saved["optimizer"]["state"].items()
    return {**saved["method"], **{f"{i} {key}": value for i, entry in entries for key, value in entry.items()}}


class Poison(Callback):
    """Makes a weight NaN in the last process's share, after the last update."""

    every_rank = True

    def on_update(self, state) -> None:
        if state.finished and rank() == world_size() - 1:
            local(state.method.backbone.blocks[0].mlp.fc1.weight).fill_(torch.nan)


def refuse() -> None:
    """What ends with an error, in all processes."""
    images = pattern_images()
    loader = Loader(images, ViewPipeline(small_views("simclr"), images.mean, images.std), batch_size=16)
    method = small_method("simclr", vit())
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(device="cpu", precision="fp32", strategy="fsdp2", callbacks=[Poison()])
    with pytest.raises(NonFiniteLossError, match="NaN"):
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    with pytest.raises(ValueError, match="not trained before"):
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    evaluator = Evaluator(images, images, [KNN(), FineTune()], random_encoder=vit())
    trainer.callbacks = [Evaluation(evaluator, every_epochs=1)]
    method = small_method("simclr", vit())
    with pytest.raises(ConfigError, match=r"evaluation\.finetune trains a copy .* `ssl-lib evaluate RUN finetune`"):
        trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=1))


def members(method: nn.Module) -> Iterator[str]:
    names = {module: name for name, module in method.named_modules()}
    return (names[block] for block in blocks(method))


def test_blocks_are_what_a_network_repeats():
    expected = {f"{network}.blocks.{i}" for network in ("backbone", "teacher.parts.0") for i in (0, 1)}
    assert set(members(small_method("byol", vit()))) == expected
    assert len(blocks(resnet18())) == 8
    assert blocks(small_method("simclr")) == []
    assert blocks(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])) == []
    inner = [nn.Sequential(nn.Linear(2, 2)) for _ in range(2)]
    outer = [nn.Sequential(nn.ModuleList(inner)), nn.Sequential(nn.Linear(2, 2))]
    found = blocks(nn.Sequential(*outer))
    assert set(found) == {*inner, *outer} and found.index(inner[0]) < found.index(outer[0])


@needs_torch
def test_alone_the_strategy_changes_nothing():
    case = "dino"
    one, other = (train(case, strategy) for strategy in ("fsdp2", "ddp"))
    assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.skipif(SUPPORTED, reason="of an older torch")
def test_an_old_torch_is_refused():
    with pytest.raises(ConfigError, match=r"needs torch 2.13 or newer, this is .*take strategy ddp"):
        Trainer(strategy="fsdp2", device="cpu", precision="fp32")


def test_what_cannot_be_sharded_is_refused():
    with pytest.raises(ConfigError, match="unknown strategy 'fsdp': one of ddp, fsdp2"):
        Trainer(strategy="fsdp")
    if SUPPORTED:
        with pytest.raises(ConfigError, match="bf16 or fp32"):
            Trainer(strategy="fsdp2", device="cpu", precision="fp16")
