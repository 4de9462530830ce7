"""The training loop: accumulation, clipping, learning rate, logged metrics, callbacks and checkpoints."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from ssl_lib import LARS, METHODS, Loader, Progress, Schedule, StepOutput, Trainer, ViewPipeline, views
from ssl_lib.training.callbacks import Callback, Checkpoints, MetricsLog
from ssl_lib.training.checkpoint import load_checkpoint
from tests.conftest import TinyBackbone
from tests.training.helpers import BadLossAt, MeanSquare, Recorder, read_lines, run

NO_AUGMENTATION = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip_p": 0,
    "jitter_p": 0,
    "grayscale_p": 0,
    "blur_p": 0,
}


def test_accumulation_equals_one_batch_with_one_step_per_update(make_loader):
    weights = []
    for accumulate in (1, 4):
        loader = make_loader()
        loader.views.views = tuple(dataclasses.replace(view, **NO_AUGMENTATION) for view in loader.views.views)
        method = MeanSquare()
        trainer = Trainer(callbacks=[], precision="fp32", device="cpu", accumulate=accumulate)
        trainer.fit(method, loader, torch.optim.SGD(method.parameters(), lr=0.1), Schedule(epochs=2))
        assert method.updates == list(range(6))
        weights.append(method.backbone[1].weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("per_parameter", [False, True])
def test_gradients_are_clipped_before_the_optimizer_steps(per_parameter, make_method, make_loader):
    norms = []

    def record_norm(optimizer, *_):
        grads = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        norms.append((max(grads) if per_parameter else torch.stack(grads).norm()).item())

    method = make_method("simclr")
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    optimizer.register_step_pre_hook(record_norm)
    trainer = Trainer(callbacks=[], precision="fp32", device="cpu", clip_norm=1e-3, clip_per_parameter=per_parameter)
    trainer.fit(method, make_loader(), optimizer, Schedule(epochs=3, warmup_epochs=1))
    assert len(norms) == 9 and norms == pytest.approx([1e-3] * 9, rel=0.01)


def test_learning_rate_follows_the_schedule(make_method, make_loader):
    recorder = Recorder()
    schedule = Schedule(epochs=3, warmup_epochs=1)
    run(make_method, make_loader, callbacks=[recorder], schedule=schedule, log_every=1)
    expected = [0.3 * 32 / 256 * schedule.lr_factor(Progress(step, 9, 3)) for step in range(9)]
    assert [line["lr"] for line in recorder.lines] == pytest.approx(expected)


def test_learning_rate_is_scaled_by_the_batch_size_only_once(make_method, make_loader):
    method, loader = make_method("simclr"), make_loader(batch_size=48)
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.256)
    for _ in range(2):
        recorder = Recorder()
        trainer = Trainer(callbacks=[recorder], precision="fp32", device="cpu", log_every=1)
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
        assert recorder.lines[0]["lr"] == pytest.approx(0.048)


def test_second_fit_with_another_batch_size_has_its_own_peak(make_method, make_loader):
    method, rates = make_method("simclr"), []
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.256)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1)  # stores its own initial_lr
    for batch_size in (48, 16):
        recorder = Recorder()
        trainer = Trainer(callbacks=[recorder], precision="fp32", device="cpu", log_every=1)
        trainer.fit(method, make_loader(batch_size=batch_size), optimizer, Schedule(epochs=1))
        rates.append(recorder.lines[0]["lr"])
    assert rates == pytest.approx([0.256 * 48 / 256, 0.256 * 16 / 256])


def test_scaling_of_the_method_is_used_unless_the_schedule_has_its_own(make_method, make_loader, monkeypatch):
    for scaling, expected in ((None, 0.3 * (32 / 256) ** 0.5), ("none", 0.3)):
        recorder, schedule = Recorder(), Schedule(epochs=1, lr_scaling=scaling)
        monkeypatch.setattr(METHODS["simclr"], "lr_scaling", "sqrt")
        run(make_method, make_loader, callbacks=[recorder], schedule=schedule, log_every=1)
        assert recorder.lines[0]["lr"] == pytest.approx(expected)


def test_metrics_log_has_a_line_every_log_every_updates_and_at_the_end_of_an_epoch(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=[MetricsLog(tmp_path / "m.jsonl")], log_every=2)
    lines = read_lines(tmp_path / "m.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 5, 7, 8]
    assert [line["epoch"] for line in lines] == [0, 0, 1, 1, 2, 2]
    for line in lines:
        assert set(line) == {"step", "epoch", "loss", "lr", "images_per_second", "data_wait", "memory_gb"}
        assert line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1
        assert 0.05 < line["memory_gb"] < 1000  # torch alone needs more than 0.05 GB


def test_metrics_are_averaged_over_the_steps_that_have_them_and_reserved_names_are_refused(make_loader):
    class Logs(BadLossAt):
        """Logs one scalar at every second step; it is not detached."""

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


def test_python_numbers_can_be_logged(make_loader):
    class Logs(MeanSquare):
        def forward(self, views, progress):
            return StepOutput(super().forward(views, progress).loss, {"twice": 2 * progress.step})

    method, recorder = Logs(), Recorder()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    trainer = Trainer(callbacks=[recorder], precision="fp32", device="cpu", log_every=1)
    trainer.fit(method, make_loader(), optimizer, Schedule(epochs=1))
    assert [line["twice"] for line in recorder.lines] == [0, 2, 4]


def test_checkpoints_are_kept_by_epoch_and_by_number(make_method, make_loader, tmp_path):
    run(make_method, make_loader, callbacks=[Checkpoints(tmp_path, save_every=2, keep_every=2)])
    names = ["epoch_0002.pt", "last.pt", "step_00000006.pt", "step_00000009.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert load_checkpoint(tmp_path / "epoch_0002.pt")["step"] == 6
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 9


def test_incomplete_last_batch_is_trained_unless_batches_are_divided(make_method, images):
    pipeline = ViewPipeline(views.presets.simclr(size=16), images.mean, images.std)
    loader = Loader(images, pipeline, batch_size=36, drop_last=False)
    method = make_method("simclr")
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    steps = []

    class RecordSteps(Callback):
        def on_update(self, state):
            steps.append(state.step)

    trainer = Trainer(callbacks=[RecordSteps()], precision="fp32", device="cpu")
    trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    assert steps == [1, 2, 3]  # batches of 36, 36 and 24 images
    with pytest.raises(ValueError, match="set drop_last=True"):
        Trainer(callbacks=[], accumulate=2).fit(method, loader, optimizer)


def test_torch_dataset_of_pil_images_trains(make_method):
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


def test_every_callback_that_started_is_ended_even_if_a_later_one_fails(make_method, make_loader):
    class RecordEnd(Callback):
        ended = False

        def on_end(self, state):
            self.ended = True

    class FailOnStart(Callback):
        def on_start(self, state):
            raise RuntimeError("no start")

    started, not_started = RecordEnd(), RecordEnd()
    with pytest.raises(RuntimeError, match="no start"):
        run(make_method, make_loader, callbacks=[started, FailOnStart(), not_started])
    assert started.ended and not not_started.ended


def test_all_callbacks_are_started_before_anything_is_logged(make_method, make_loader):
    class Returns(Callback):
        def on_start(self, state):
            return {"before": 1.0}

    class NeedsItsStart(Callback):
        def on_start(self, state):
            self.logged = []

        def on_log(self, state, metrics):
            self.logged.append(metrics)

    late = NeedsItsStart()
    run(make_method, make_loader, callbacks=[Returns(), late])
    assert late.logged[0] == {"step": 0, "epoch": 0, "before": 1.0}
