"""Several processes train what one does on the joined batch: every method, in float64, to the last digits."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_lib import (
    LARS,
    METHODS,
    CheckpointError,
    ConfigError,
    Loader,
    NonFiniteLossError,
    Schedule,
    Trainer,
    ViewPipeline,
)
from ssl_lib.data import ArrayData, FolderData
from ssl_lib.distributed import barrier, gather_objects, gather_uneven, is_distributed, rank, share, world_size
from ssl_lib.evaluation import RawPixels, extract_features, knn_accuracy
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.run_lock import check_unlocked, run_lock
from ssl_lib.training.sync_batchnorm import SyncBatchNorm, refuse_foreign_norms, synchronize_batchnorm
from tests.conftest import TinyBackbone, pattern_images, small_method, small_views
from tests.distributed_helper import run_processes

WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]
ACCUMULATE = (1, 2)


class DoubleViews(ViewPipeline):
    """Views in float64."""

    def __call__(self, *arguments, **keywords):
        views = super().__call__(*arguments, **keywords)
        large, small = (tuple(view.double() for view in part) for part in (views.large, views.small))
        return dataclasses.replace(views, large=large, small=small)


def train(name: str, accumulate: int, exact: bool = False) -> dict[str, Tensor]:
    """Three updates of a method; its state after them, and the gradients of the first."""
    gradients: list[Tensor] = []

    def note(parameters) -> None:
        gradients.append(
            torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        )  # DINO's last layer is frozen at first

    images = pattern_images()
    loader = Loader(images, DoubleViews(small_views(name), images.mean, images.std), batch_size=16)
    method = small_method(name, TinyBackbone(norm=nn.GroupNorm(4, 16)) if exact else None).double()
    if rank() != 0:  # the weights of the first process are what counts
        nn.init.normal_(next(method.parameters()))
    trainer = Trainer(device="cpu", precision="fp32", callbacks=[], clip=note, accumulate=accumulate, exact=exact)
    trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=3 / loader.steps_per_epoch))
    return {"gradient": gradients[0], **method.state_dict()}


class Late(Callback):
    """Takes its time in the first process after the last update, as a large checkpoint does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_end(self, state) -> None:
        time.sleep(0.3)
        self.path.touch()


def leave(folder: Path) -> dict[str, Tensor]:
    """Whether the first process has ended its work when this one may go."""
    images = pattern_images()
    loader = Loader(images, ViewPipeline(small_views("simclr"), images.mean, images.std), batch_size=32)
    method = small_method("simclr")
    trainer = Trainer(device="cpu", precision="fp32", callbacks=[Late(folder / "written")])
    trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=1))
    return {"written": torch.tensor((folder / "written").exists())}


def work(folder: Path) -> dict[str, Tensor]:
    """All that is compared, in this process."""
    trained = {
        f"{name} {accumulate} {key}": value
        for name in METHODS
        for accumulate in ACCUMULATE
        for key, value in train(name, accumulate).items()
    }
    trained |= {f"exact {key}": value for key, value in train("simclr", accumulate=2, exact=True).items()}
    own = folder / str(world_size())
    trained |= normalize(synchronized=True) | evaluate(folder / "images")
    return trained | resume(own) | meet_nan(own) | leave(own) | lock_twice(own)


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    """The number of processes."""
    return request.param


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_images(folder / "images")
    with pytest.raises(KeyboardInterrupt):
        fit_noisy(folder / "alone", Stop(after=8), dropout=0.0)
    shutil.copytree(folder / "alone", folder / str(world) / "from one")
    return run_processes(work, (world,), folder, folder) | {"folder": folder}


@pytest.mark.parametrize("accumulate", ACCUMULATE)
@pytest.mark.parametrize("name", METHODS)
def test_several_processes_train_as_one(results, world, name, accumulate):
    assert_as_one(results, world, f"{name} {accumulate}", train(name, accumulate))


def test_several_processes_accumulate_exactly(results, world):
    assert_as_one(results, world, "exact", train("simclr", accumulate=1, exact=True))


def assert_as_one(results, world, case, expected):
    for key, value in expected.items():
        parts = [result[f"{case} {key}"] for result in results[world]]
        assert all(torch.equal(part, parts[0]) for part in parts), f"{key} differs between the processes"
        error = (parts[0].double() - value.double()).norm() / value.double().norm().clamp(min=1e-3)
        assert error <= 1e-8, f"{key}: {error:.1e} off"


def norms() -> dict[str, nn.Module]:
    return {
        "1d": nn.BatchNorm1d(3),
        "2d, cumulative": nn.BatchNorm2d(3, momentum=None),
        "3d, plain": nn.BatchNorm3d(3, affine=False),
        "2d, untracked": nn.BatchNorm2d(3, track_running_stats=False),
    }


def inputs(case: str) -> Tensor:
    """Eight images far from zero."""
    shape = {"1d": (8, 3), "2d": (8, 3, 5, 4), "3d": (8, 3, 2, 3, 2)}[case[:2]]
    return 100 + 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def normalize(synchronized: bool) -> dict[str, Tensor]:
    """Two forward passes of this process's share through each layer, the gradient of the second, the layer's state."""
    results = {}
    for case, norm in norms().items():
        layers = nn.ModuleList([norm.double()])
        if synchronized:
            synchronize_batchnorm(layers)
            assert type(layers[0]) is SyncBatchNorm and layers[0].weight is norm.weight
        layers[0](share(inputs(case)) / 2)
        x = share(inputs(case)).clone().requires_grad_()
        out = layers[0](x)
        (out.sin() * torch.linspace(-1, 1, out[0].numel(), dtype=torch.float64).view_as(out[0])).sum().backward()
        assert x.grad is not None
        found = {"out": out.detach(), "grad": x.grad, "eval": layers.eval()[0](inputs(case)).detach()}
        results |= {f"{case} {key}": value for key, value in {**found, **layers[0].state_dict()}.items()}
    return results


@pytest.mark.parametrize("case", norms())
def test_synchronized_batchnorm_is_batchnorm_on_the_joined_batch(results, case, world):
    expected = {key: value for key, value in normalize(synchronized=False).items() if key.startswith(case)}
    assert len(expected) >= 3
    for key, value in expected.items():
        for place, result in enumerate(results[world]):
            mine = value[place::world] if key.endswith(("out", "grad")) else value
            torch.testing.assert_close(result[key], mine, rtol=1e-10, atol=1e-10, msg=f"{key} in process {place}")


class Stop(Callback):
    """Ends a run after some updates."""

    every_rank = True

    def __init__(self, after: int) -> None:
        self.after = after

    def on_update(self, state) -> None:
        if state.step == self.after:
            raise KeyboardInterrupt


def resume(folder: Path) -> dict[str, Tensor]:
    """The states of a run of two epochs, of one that was broken off and resumed, and a draw of the random generator."""
    states = [fit_noisy(folder / "unbroken")]
    with pytest.raises(KeyboardInterrupt):
        fit_noisy(folder / "broken", Stop(after=8))
    states.append(fit_noisy(folder / "broken", resume=True))
    if is_distributed():
        with pytest.raises(KeyboardInterrupt):
            fit_noisy(folder / "moved", Stop(after=8), dropout=0.0)
    states.append(fit_noisy(folder / "from one", resume=True, dropout=0.0))
    names = ("unbroken", "resumed", "from one")
    return {f"{name} {key}": value for name, state in zip(names, states, strict=True) for key, value in state.items()}


def fit_noisy(folder: Path, *callbacks: Callback, resume: bool = False, dropout: float = 0.5) -> dict[str, Tensor]:
    """Two epochs of six updates."""
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


def test_a_resumed_run_of_several_processes_is_the_unbroken_one(results, world):
    for result in results[world]:
        names = {key.partition(" ")[2] for key in result if key.startswith("resumed ")}
        assert "random" in names and len(names) > 10
        for name in names:
            assert torch.equal(result[f"resumed {name}"], result[f"unbroken {name}"]), name
    draws = [float(result["resumed random"]) for result in results[world]]
    assert len(set(draws)) == world  # every process has a generator of its own
    files = [results["folder"] / str(world) / name / "metrics.jsonl" for name in ("unbroken", "broken")]
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [line["step"] for line in lines[0]] == [1, 3, 5, 7, 9, 11]  # written by one process
    assert [(line["step"], line["loss"]) for line in lines[0]] == [(line["step"], line["loss"]) for line in lines[1]]


def test_a_run_goes_on_with_another_number_of_processes(results, world, tmp_path):
    moved = fit_noisy(results["folder"] / str(world) / "moved", resume=True, dropout=0.0)
    alone = fit_noisy(tmp_path, dropout=0.0)
    for key in alone.keys() - {"random"}:
        torch.testing.assert_close(moved[key], alone[key], rtol=1e-8, atol=1e-11, msg=key)
        for result in results[world]:
            torch.testing.assert_close(result[f"from one {key}"], alone[key], rtol=1e-8, atol=1e-11, msg=key)


def test_no_process_goes_before_the_first_has_written(results, world):
    assert all(result["written"] for result in results[world])


def lock_twice(folder: Path) -> dict[str, Tensor]:
    """Whether this process of a group that has the folder is told that it is taken."""
    with run_lock(folder), pytest.raises(CheckpointError, match="is being trained into by process"):
        check_unlocked(folder)
    check_unlocked(folder)
    return {"locked": torch.tensor(True)}


def test_a_folder_in_use_is_refused_in_every_process(results, world):
    assert all(result["locked"] for result in results[world])


def write_images(folder: Path) -> None:
    """Six files, of which those at odd places cannot be read: of two processes one is left without any."""
    folder.mkdir()
    for index in range(6):
        Image.new("L", (8, 8), 40 * index).save(folder / f"{index}.png")
        if index % 2:
            (folder / f"{index}.png").write_bytes(b"no image")


def evaluate(folder: Path) -> dict[str, Tensor]:
    """Features and kNN of sets that do not divide among the processes, and of files that cannot all be read."""
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


def test_processes_evaluate_every_image_once(results, world):
    alone = evaluate(results["folder"] / "images")
    assert alone["files"].shape == (3, 64) and alone["skipped"] == 3
    for result in results[world]:
        for key in alone.keys() - {"uneven"}:
            torch.testing.assert_close(result[key], alone[key], rtol=1e-6, atol=1e-6, msg=key)
        expected = torch.arange(world).repeat_interleave(torch.arange(world)).double()
        assert torch.equal(result["uneven"].double(), expected.unsqueeze(1).expand(-1, 2))


def spoil(folder: Path, at_once: bool) -> tuple[list[int], dict[str, object]]:
    """The images of the process whose loss became NaN, and what the run wrote of it."""

    class Spoiled(METHODS["byol"]):
        def forward(self, views, progress):
            output = super().forward(views, progress)
            bad = rank() == 1 and progress.step == 1
            if bad:
                mine.extend(views.indices.tolist())
            return dataclasses.replace(output, loss=output.loss * torch.nan) if bad else output

    class Late(Callback):
        every_rank = True

        def on_start(self, state) -> None:
            state.meter.at_once = at_once  # as on CUDA

    mine: list[int] = []
    images = pattern_images()
    method = Spoiled(TinyBackbone(), hidden_dim=32, out_dim=16)
    loader = Loader(images, ViewPipeline(small_views("byol"), images.mean, images.std), batch_size=16)
    trainer = Trainer(folder, device="cpu", precision="fp32", log_every=2)
    trainer.callbacks = [*trainer.callbacks, Late()]
    with pytest.raises(NonFiniteLossError, match="loss became nan at step 1"):
        trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=1))
    barrier()
    return mine, json.loads((folder / "nonfinite.json").read_text())


def meet_nan(folder: Path) -> dict[str, Tensor]:
    """Whether the images of the one process whose loss became NaN are those that the first process writes down."""
    found = {}
    for at_once in (True, False):
        mine, record = spoil(folder / f"nan {at_once}", at_once)
        everyone = [index for indices in gather_objects(mine) for index in indices]
        found[f"nan {at_once}"] = torch.tensor([len(everyone) == 16 // world_size(), record["indices"] == everyone])
    return found


@pytest.mark.parametrize("at_once", [True, False])
def test_a_loss_that_is_nan_in_one_process_stops_all_and_its_images_are_named(results, world, at_once):
    assert all(result[f"nan {at_once}"].all() for result in results[world])


def test_batch_normalizations_that_do_more_are_refused():
    class NormAndRectify(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    method = small_method("simclr", TinyBackbone(norm=NormAndRectify(16)))
    with pytest.raises(ConfigError, match=r"backbone.1 is a NormAndRectify.*sync_batchnorm = False"):
        refuse_foreign_norms(method)
    refuse_foreign_norms(small_method("simclr"))
