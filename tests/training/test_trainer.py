"""The loop: exact resume, accumulation, precision, bad numbers, metrics."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_lib import (
    LARS,
    CheckpointError,
    Loader,
    Method,
    NonFiniteLossError,
    Progress,
    Schedule,
    StepOutput,
    Trainer,
    ViewPipeline,
    views,
)
from ssl_lib.training.callbacks import Callback, Checkpoints, MetricsLog, default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from ssl_lib.training.meter import Meter
from ssl_lib.utils.precision import Precision
from ssl_lib.utils.seeding import seed_everything
from tests.conftest import TinyBackbone


class Stop(Exception):
    """Raised to break a run off."""


class StopAt(Callback):
    """Breaks the run off after some updates."""

    def __init__(self, step):
        self.step = step

    def on_update(self, state):
        if state.step == self.step:
            raise Stop


class InitialScale(Callback):
    """Sets the scale that fp16 gradients begin with."""

    def __init__(self, scale):
        self.scale = scale

    def on_start(self, state):
        state.scaler._init_scale = self.scale


class Recorder(Callback):
    """Keeps what was logged."""

    def __init__(self):
        self.lines, self.ends = [], 0

    def on_log(self, state, metrics):
        self.lines.append(dict(metrics))

    def on_end(self, state):
        self.ends += 1


def run(make_method, make_loader, name="simclr", callbacks=(), schedule=None, resume=False, **options):
    method, loader = make_method(name), make_loader(name)
    trainer = Trainer(callbacks=list(callbacks), precision="fp32", device="cpu", **options)
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    return trainer.fit(method, loader, optimizer, schedule or Schedule(epochs=3, warmup_epochs=1), resume=resume)


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(a, b, path=""):
    """Bit for bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
@pytest.mark.parametrize(("stop", "log_every"), [(3, 2), (5, 2), (5, 1)])
def test_a_resumed_run_equals_an_unbroken_one(name, stop, log_every, make_method, make_loader, tmp_path):
    """Broken off at an epoch's end (3) and within one (5, resumed from the checkpoint at 3), its log included."""
    schedule = Schedule(epochs=3, warmup_epochs=1, weight_decay_end=0.1)
    options = {"name": name, "schedule": schedule, "log_every": log_every}
    unbroken = run(
        make_method, make_loader, run_dir=tmp_path / "a", callbacks=default_callbacks(tmp_path / "a"), **options
    )

    callbacks = default_callbacks(tmp_path / "b")
    with pytest.raises(Stop):
        run(make_method, make_loader, run_dir=tmp_path / "b", callbacks=[*callbacks, StopAt(stop + 1)], **options)
    method, loader = make_method(name), make_loader(name)
    torch.manual_seed(1234)
    trainer = Trainer(tmp_path / "b", precision="fp32", device="cpu", log_every=log_every, callbacks=callbacks)
    resumed = trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), schedule, resume=True)

    assert_same(unbroken.state_dict(), resumed.state_dict())
    lines = [read_lines(tmp_path / folder / "metrics.jsonl") for folder in "ab"]
    keys = ("step", "epoch", "loss", "lr")
    assert [[line[key] for key in keys] for line in lines[0]] == [[line[key] for key in keys] for line in lines[1]]
    assert [line["step"] for line in lines[1]] == (list(range(9)) if log_every == 1 else [1, 2, 3, 5, 7, 8])


class AskToStop(Callback):
    """Asks the trainer to stop after some updates, as a signal would."""

    def __init__(self, step):
        self.step, self.trainer = step, None

    def on_update(self, state):
        if state.step == self.step:
            self.trainer.stop()


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
@pytest.mark.parametrize("log_every", [1, 2, 20])
def test_a_run_stopped_at_every_step_equals_an_unbroken_one(name, log_every, make_method, make_loader, tmp_path):
    """Within a logged line, too, and at the ends of epochs."""
    schedule, folders = Schedule(epochs=3, warmup_epochs=1, weight_decay_end=0.1), (tmp_path / "a", tmp_path / "b")
    options = {"name": name, "schedule": schedule, "log_every": log_every}
    unbroken = run(make_method, make_loader, run_dir=folders[0], callbacks=default_callbacks(folders[0]), **options)
    for stop in range(1, 11):
        asks, method = AskToStop(stop), make_method(name)
        torch.manual_seed(stop)
        callbacks = [asks, *default_callbacks(folders[1])]
        trainer = Trainer(folders[1], precision="fp32", device="cpu", log_every=log_every, callbacks=callbacks)
        asks.trainer, optimizer = trainer, LARS(method.param_groups(1e-4), lr=0.3)
        state = trainer.fit(method, make_loader(name), optimizer, schedule, resume=stop > 1)
        assert (state.step, state.stopping) == ((stop, True) if stop < 10 else (9, False))
    assert_same(unbroken.state_dict(), state.state_dict())
    timeless = [
        [
            {**line, "images_per_second": 0, "data_wait": 0, "memory_gb": 0}
            for line in read_lines(folder / "metrics.jsonl")
        ]
        for folder in folders
    ]
    assert timeless[0] == timeless[1]


def test_resume_from_a_file_goes_back(make_method, make_loader, tmp_path):
    callbacks = [MetricsLog(tmp_path / "m.jsonl"), Checkpoints(tmp_path / "checkpoints", keep=1, keep_every=1)]
    unbroken = run(make_method, make_loader, run_dir=tmp_path, callbacks=callbacks)
    first = tmp_path / "checkpoints" / "epoch_0001.pt"
    resumed = run(make_method, make_loader, run_dir=tmp_path, callbacks=callbacks, resume=first)
    assert resumed.resumed_at == 3
    assert_same(unbroken.state_dict(), resumed.state_dict())
    assert [line["step"] for line in read_lines(tmp_path / "m.jsonl")] == [2, 5, 8]


def test_a_checkpoint_of_another_version_says_so(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))
    path = tmp_path / "checkpoints" / "last.pt"
    saved = load_checkpoint(path)
    del saved["lines"], saved["format"]
    save_checkpoint(path, saved)
    with pytest.raises(CheckpointError, match="lacks lines: another version of ssl_lib saved it"):
        run(make_method, make_loader, run_dir=tmp_path, resume=True)


def test_resume_within_an_epoch_is_exact(make_method, make_loader, tmp_path):
    class SaveAt(Callback):
        def on_update(self, state):
            if state.step == 4:
                save_checkpoint(tmp_path / "checkpoints" / "last.pt", state.state_dict())

    unbroken = run(make_method, make_loader, callbacks=[SaveAt()])
    method, loader = make_method("simclr"), make_loader()
    trainer = Trainer(tmp_path, precision="fp32", device="cpu", callbacks=[])
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    resumed = trainer.fit(method, loader, optimizer, Schedule(epochs=3, warmup_epochs=1), resume=True)
    assert_same(unbroken.state_dict(), resumed.state_dict())


class MeanSquare(Method):
    """A loss that is a mean over the batch, without BatchNorm: K micro-batches must equal one batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
        self.backbone.out_dim = 4
        self.updates = []

    def forward(self, views, progress):
        z = self.backbone(views.large[0])
        self.last = views
        return StepOutput(z.square().mean(), embeddings=z.detach())

    def after_update(self, progress):
        self.updates.append(progress.step)


def test_accumulation_equals_one_batch_and_moves_once_per_update(make_loader):
    weights = []
    for accumulate in (1, 4):
        loader = make_loader()
        loader.views.views = tuple(
            dataclasses.replace(view, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_p=0, jitter_p=0,
                                grayscale_p=0, blur_p=0) for view in loader.views.views
        )  # fmt: skip
        method = MeanSquare()
        trainer = Trainer(callbacks=[], precision="fp32", device="cpu", accumulate=accumulate)
        trainer.fit(method, loader, torch.optim.SGD(method.parameters(), lr=0.1), Schedule(epochs=2))
        assert method.updates == list(range(6))
        weights.append(method.backbone[1].weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


def test_clip_sees_the_gradients_before_the_step(make_method, make_loader):
    norms = []

    def clip(parameters):
        parameters = list(parameters)
        nn.utils.clip_grad_norm_(parameters, 1e-3)
        norms.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())

    run(make_method, make_loader, clip=clip)
    assert len(norms) == 9 and max(norms) <= 1.01e-3


class Breaks(Method):
    """Gives a bad loss at one step."""

    def __init__(self, at, value, poison=False):
        super().__init__()
        self.backbone, self.at, self.value, self.poison = TinyBackbone(), at, value, poison

    def forward(self, views, progress: Progress):
        z = self.backbone(views.large[0])
        bad = self.value if progress.step == self.at else 0.0
        if self.poison and progress.step == self.at - 1:
            next(self.backbone.parameters()).data.fill_(float("nan"))
        return StepOutput(z.mean() + bad, embeddings=z.detach())


@pytest.mark.parametrize(
    ("value", "poison", "message"),
    [
        (
            float("nan"),
            False,
            r"loss became nan at step 4, in fp32, at lr 0: the embeddings are finite, so it arose in the loss",
        ),
        (float("inf"), False, r"loss became inf at step 4"),
        (0.0, True, r"loss became nan at step 4, in fp32, at lr 0: the weights are not finite: training diverged"),
    ],
)
def test_a_non_finite_loss_stops_the_run_and_keeps_the_checkpoint(value, poison, message, make_loader, tmp_path):
    method, recorder = Breaks(4, value, poison), Recorder()
    trainer = Trainer(
        tmp_path, callbacks=[recorder, Checkpoints(tmp_path / "checkpoints")], precision="fp32", device="cpu"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.0), Schedule(epochs=3))
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["step"] == 3
    assert all(value.isfinite().all() for value in saved["method"].values())
    assert recorder.ends == 1


def test_fp16_overflow_skips_the_update_and_the_teacher(make_method, make_loader):
    """A scale far too large overflows the gradients: nothing may move until it has come down."""
    method, loader = make_method("dino"), make_loader("dino")
    before = {key: value.clone() for key, value in method.state_dict().items()}

    trainer = Trainer(callbacks=[InitialScale(2.0**100), StopAt(1)], precision="fp16", device="cpu")
    with pytest.raises(Stop):
        trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=1))
    for key, _ in method.named_parameters():
        assert torch.equal(method.state_dict()[key], before[key]), key
    assert torch.equal(method.loss.center, before["loss.center"])
    method.after_update(Progress(0, 1, 1))
    assert torch.equal(method.loss.center, before["loss.center"]), "what the skipped update collected is forgotten"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_half_precision_trains_near_float32(precision, name, make_method, make_loader):
    losses = []
    for kind in ("fp32", precision):
        recorder = Recorder()
        method, loader = make_method(name), make_loader(name)
        trainer = Trainer(callbacks=[recorder, InitialScale(16.0)], precision=kind, device="cpu", log_every=1)
        trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.1), Schedule(epochs=2))
        losses.append([line["loss"] for line in recorder.lines])
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.05)


def test_auto_precision_is_bf16_only_with_hardware_for_it():
    device = torch.device("cpu")
    fast = any(getattr(torch.cpu, f"_is_{name}_supported")() for name in ("avx512_bf16", "amx_tile"))
    assert Precision.resolve("auto", device).name == ("bf16" if fast else "fp32")


@pytest.mark.slow
def test_compiled_training_equals_eager(make_method, make_loader):
    a = run(make_method, make_loader, name="byol", schedule=Schedule(epochs=1))
    b = run(make_method, make_loader, name="byol", schedule=Schedule(epochs=1), compile=True)
    for key, value in a.method.state_dict().items():
        torch.testing.assert_close(value, b.method.state_dict()[key], rtol=1e-3, atol=1e-4)


def test_metrics_lines(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=[MetricsLog(tmp_path / "m.jsonl")], log_every=2)
    lines = read_lines(tmp_path / "m.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 5, 7, 8]  # every second, and the last of each epoch
    assert [line["epoch"] for line in lines] == [0, 0, 1, 1, 2, 2]
    for line in lines:
        assert set(line) == {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "memory_gb"}
        assert line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1
        assert 0.05 < line["memory_gb"] < 1000  # at least torch itself


def test_the_learning_rate_follows_the_schedule(make_method, make_loader):
    recorder = Recorder()
    schedule = Schedule(epochs=3, warmup_epochs=1)
    run(make_method, make_loader, callbacks=[recorder], schedule=schedule, log_every=1)
    expected = [0.3 * 32 / 256 * schedule.lr_factor(Progress(step, 9, 3)) for step in range(9)]
    assert [line["lr"] for line in recorder.lines] == pytest.approx(expected)


def test_kept_checkpoints(make_method, make_loader, tmp_path):
    run(make_method, make_loader, callbacks=[Checkpoints(tmp_path, save_every=2, keep_every=2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("epoch_0002.pt", "last.pt", "step_00000006.pt", "step_00000009.pt")
    ]
    assert load_checkpoint(tmp_path / "epoch_0002.pt")["step"] == 6
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 9


def test_resume_refuses_another_run(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))

    def resume(name="simclr", batch_size=32, epochs=3):
        method = make_method(name)
        trainer = Trainer(tmp_path, callbacks=[], precision="fp32", device="cpu")
        optimizer = LARS(method.param_groups(0.0), lr=0.3)
        trainer.fit(method, make_loader(name, batch_size), optimizer, Schedule(epochs=epochs), resume=True)

    with pytest.raises(CheckpointError, match="batch_size"):
        resume(batch_size=16)
    with pytest.raises(CheckpointError, match="total_steps"):
        resume(epochs=4)
    with pytest.raises(CheckpointError, match="does not fit"):
        resume(name="byol")


def test_resume_without_a_checkpoint_is_named(make_method, make_loader, tmp_path):
    method = make_method("simclr")
    with pytest.raises(CheckpointError, match="no run at"):
        Trainer(tmp_path, callbacks=[]).fit(method, make_loader(), LARS(method.parameters(), lr=0.1), resume=True)


def test_weights_gone_bad_at_an_epochs_end_are_not_saved(make_loader, tmp_path):
    class Poison(Breaks):
        """Ruins its weights after the last update of the second epoch; every loss is finite."""

        def after_update(self, progress):
            if progress.step == 5:
                next(self.backbone.parameters()).data.fill_(float("nan"))

    method = Poison(at=100, value=0.0)
    trainer = Trainer(tmp_path, callbacks=[Checkpoints(tmp_path / "checkpoints")], precision="fp32", device="cpu")
    with pytest.raises(NonFiniteLossError, match="weights became NaN or infinite by step 5"):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.0), Schedule(epochs=3))
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["step"] == 3 and all(value.isfinite().all() for value in saved["method"].values())


def test_fp16_that_overflows_at_any_scale_stops_the_run(make_loader):
    class Overflows(Breaks):
        """A finite loss whose gradient is not: the square root at zero."""

        def forward(self, views, progress):
            z = self.backbone(views.large[0])
            return StepOutput((z - z.detach()).abs().sum().float().sqrt(), embeddings=z.detach())

    method = Overflows(at=0, value=0.0)
    trainer = Trainer(callbacks=[InitialScale(4.0)], precision="fp16", device="cpu")
    with pytest.raises(NonFiniteLossError, match="at any loss scale"):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.1), Schedule(epochs=20))


def test_metrics_are_detached_averaged_where_present_and_kept_apart_from_the_trainers(make_loader):
    class Logs(Breaks):
        """Logs one scalar at every second step."""

        def forward(self, views, progress):
            z = self.backbone(views.large[0]).mean()
            name = "loss" if self.value else "spread"
            return StepOutput(z, {name: z + progress.step} if progress.step % 2 == 0 else {})

    method, recorder = Logs(at=0, value=0.0), Recorder()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    Trainer(callbacks=[recorder], precision="fp32", device="cpu").fit(
        method, make_loader(), optimizer, Schedule(epochs=1)
    )
    assert recorder.lines[0]["spread"] == pytest.approx(1 + recorder.lines[0]["loss"], abs=0.1)
    method.value = 1.0
    with pytest.raises(ValueError, match=r"logs \['loss'\]"):
        Trainer(callbacks=[], precision="fp32", device="cpu").fit(method, make_loader(), optimizer, Schedule(epochs=1))


def test_the_learning_rate_is_scaled_to_the_batch_once(make_method, make_loader):
    method, loader = make_method("simclr"), make_loader(batch_size=48)
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.256)
    for _ in range(2):
        recorder = Recorder()
        trainer = Trainer(callbacks=[recorder], precision="fp32", device="cpu", log_every=1)
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
        assert recorder.lines[0]["lr"] == pytest.approx(0.048)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"accumulate": 0}, "at least 1"), ({"log_every": 0}, "at least 1")]
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Trainer(callbacks=[], **arguments)


def test_accumulation_that_does_not_divide_the_batch_is_refused(make_method, make_loader):
    method = make_method("simclr")
    with pytest.raises(
        ValueError, match="batch_size 32 cannot be divided by accumulate 3: the nearest that can are 30 and 33"
    ):
        Trainer(callbacks=[], accumulate=3).fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.1))


def test_the_last_batch_may_be_kept(make_method, images):
    pipeline = ViewPipeline(views.presets.simclr(size=16), images.mean, images.std)
    loader = Loader(images, pipeline, batch_size=36, drop_last=False)
    method = make_method("simclr")
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    seen = []

    class Seen(Callback):
        def on_update(self, state):
            seen.append(state.step)

    Trainer(callbacks=[Seen()], precision="fp32", device="cpu").fit(method, loader, optimizer, Schedule(epochs=1))
    assert seen == [1, 2, 3]  # of 36, 36 and 24 images
    with pytest.raises(ValueError, match="leave drop_last=True"):
        Trainer(callbacks=[], accumulate=2).fit(method, loader, optimizer)


def test_a_second_run_in_the_same_folder_is_refused(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))
    with pytest.raises(CheckpointError, match="holds a run already"):
        run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))


def test_a_plain_torch_data_set_trains(make_method):
    """Items of a PIL image and a label, through worker crops and the Trainer."""

    class Squares(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return Image.new("RGB", (20 + index, 24), (20 * index, 100, 200)), index % 2

    pipeline = ViewPipeline(views.presets.simclr(size=16), (0.5,) * 3, (0.25,) * 3)
    loader = Loader(Squares(), pipeline, batch_size=4, workers=0)
    method = make_method("simclr", backbone=TinyBackbone(in_channels=3))
    before = method.backbone[0].weight.clone()
    state = Trainer(callbacks=[]).fit(method, loader, LARS(method.param_groups(0.0), lr=1.0), Schedule(epochs=2))
    assert state.step == 6
    assert not torch.equal(before, method.backbone[0].weight)


def test_every_callback_that_started_ends_even_where_a_later_one_fails(make_method, make_loader):
    class Ends(Callback):
        ended = False

        def on_end(self, state):
            self.ended = True

    class Fails(Callback):
        def on_start(self, state):
            raise RuntimeError("no start")

    ends, never = Ends(), Ends()
    with pytest.raises(RuntimeError, match="no start"):
        run(make_method, make_loader, callbacks=[ends, Fails(), never])
    assert ends.ended and not never.ended


def test_an_optimizer_of_other_parameters_is_refused(make_method, make_loader):
    method = make_method("simclr")
    trainer = Trainer(callbacks=[], precision="fp32", device="cpu")
    for parameters, message in (
        ([*method.parameters(), nn.Parameter(torch.zeros(1))], "1 parameters that are not the method's"),
        (method.backbone.parameters(), "leaves out .* such as projector"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.fit(method, make_loader(), torch.optim.SGD(parameters, lr=0.1), Schedule(epochs=1))
    method.projector.requires_grad_(False)
    trainer.fit(method, make_loader(), torch.optim.SGD(method.backbone.parameters(), lr=0.1), Schedule(epochs=1))


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda z: z.mean(), TypeError, "Returns.forward must return a StepOutput"),
        (
            lambda z: StepOutput(z.square()),
            ValueError,
            r"scalar loss, such as a mean over the batch; got shape \(32, 4\)",
        ),
        (lambda z: StepOutput(1.0), ValueError, "scalar loss.*got float"),
    ],
)
def test_what_forward_returns_is_checked(returned, error, message, make_loader):
    class Returns(MeanSquare):
        def forward(self, views, progress):
            return returned(self.backbone(views.large[0]))

    method = Returns()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    with pytest.raises(error, match=message):
        Trainer(callbacks=[], precision="fp32", device="cpu").fit(method, make_loader(), optimizer)


def test_plain_numbers_may_be_logged(make_loader):
    class Logs(MeanSquare):
        def forward(self, views, progress):
            return StepOutput(super().forward(views, progress).loss, {"twice": 2 * progress.step})

    method, recorder = Logs(), Recorder()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    trainer = Trainer(callbacks=[recorder], precision="fp32", device="cpu", log_every=1)
    trainer.fit(method, make_loader(), optimizer, Schedule(epochs=1))
    assert [line["twice"] for line in recorder.lines] == [0, 2, 4]


def test_the_cause_is_read_from_the_step_itself_where_it_is_looked_at_later(make_loader, monkeypatch):
    """As on CUDA: the loss is found at the next log line, when it has spoilt the weights already."""

    class Spoils(MeanSquare):
        def forward(self, views, progress):
            output = super().forward(views, progress)
            return dataclasses.replace(output, loss=output.loss * (float("nan") if progress.step == 4 else 1.0))

    method = Spoils()
    trainer = Trainer(callbacks=[], precision="fp32", device="cpu", log_every=6)
    monkeypatch.setattr("ssl_lib.training.trainer.Meter", lambda **options: Meter(at_once=False))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    with pytest.raises(NonFiniteLossError, match=r"at step 4, .* the embeddings are finite, so it arose in the loss"):
        trainer.fit(method, make_loader(), optimizer, Schedule(epochs=3))
    assert not all(parameter.isfinite().all() for parameter in method.parameters())


def test_numpys_and_pythons_random_numbers_are_resumed_too(make_loader, tmp_path):
    class Throws(MeanSquare):
        """Depends on three global generators."""

        def forward(self, views, progress):
            noise = np.random.rand() + random.random() + torch.rand(()).item()
            return StepOutput(noise * super().forward(views, progress).loss)

    def train(folder, stop=None, resume=False):
        method = Throws()
        callbacks = [*default_callbacks(folder), *([StopAt(stop)] if stop else [])]
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
        seed_everything(99 if resume else 0)
        trainer = Trainer(folder, callbacks=callbacks, precision="fp32", device="cpu")
        return trainer.fit(method, make_loader(), optimizer, Schedule(epochs=3), resume=resume).state_dict()

    unbroken = train(tmp_path / "a")
    with pytest.raises(Stop):
        train(tmp_path / "b", stop=5)
    assert_same(train(tmp_path / "b", resume=True), unbroken)


def test_processes_that_have_not_joined_are_refused(make_method, make_loader, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"2 processes .* not joined.*ssl_lib.started\(\)"):
        run(make_method, make_loader)


def test_arguments_in_the_wrong_places_are_named(make_method, make_loader):
    method, loader = make_method("simclr"), make_loader()
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(callbacks=[])
    with pytest.raises(TypeError, match="expected a Method, got Loader"):
        trainer.fit(loader, method, optimizer)
    with pytest.raises(TypeError, match=r"fit\(method, loader, optimizer, schedule\): .*Loader.*, got \[1\]"):
        trainer.fit(method, [1], optimizer)
    with pytest.raises(TypeError, match=r"Schedule.*, got 5"):
        trainer.fit(method, loader, optimizer, 5)


def test_a_detached_loss_is_named(make_loader):
    class Detached(MeanSquare):
        def forward(self, views, progress):
            return StepOutput(super().forward(views, progress).loss.detach())

    method = Detached()
    with pytest.raises(ValueError, match="depends on no trainable parameter: was it detached"):
        Trainer(callbacks=[]).fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.1))
