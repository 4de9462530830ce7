"""Resuming a run: the result equals an uninterrupted run bit for bit, and runs that do not fit are refused."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch

from ssl_lib import LARS, CheckpointError, Schedule, StepOutput, Trainer
from ssl_lib.training.callbacks import Callback, Checkpoints, MetricsLog, default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from ssl_lib.training.checkpoint_folder import open_checkpoint
from ssl_lib.utils.seeding import seed_everything
from tests.training.helpers import CrashAfter, CrashError, MeanSquare, StopAfter, assert_same, read_lines, run


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
@pytest.mark.parametrize(("stop", "log_every"), [(3, 2), (5, 2), (5, 1)])
def test_resumed_run_equals_uninterrupted_run(name, stop, log_every, make_method, make_loader, tmp_path):
    """Crashes at the end of an epoch (3) and within one (5, resumed from the checkpoint at 3); compares logs too."""
    schedule = Schedule(epochs=3, warmup_epochs=1, weight_decay_end=0.1)
    options = {"name": name, "schedule": schedule, "log_every": log_every}
    uninterrupted = run(
        make_method, make_loader, run_dir=tmp_path / "a", callbacks=default_callbacks(tmp_path / "a"), **options
    )

    callbacks = default_callbacks(tmp_path / "b")
    with pytest.raises(CrashError):
        run(make_method, make_loader, run_dir=tmp_path / "b", callbacks=[*callbacks, CrashAfter(stop + 1)], **options)
    method, loader = make_method(name), make_loader(name)
    torch.manual_seed(1234)
    trainer = Trainer(tmp_path / "b", precision="fp32", device="cpu", log_every=log_every, callbacks=callbacks)
    resumed = trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), schedule, resume=True)

    assert_same(uninterrupted.state_dict(), resumed.state_dict())
    lines = [read_lines(tmp_path / folder / "metrics.jsonl") for folder in "ab"]
    keys = ("step", "epoch", "loss", "lr")
    assert [[line[key] for key in keys] for line in lines[0]] == [[line[key] for key in keys] for line in lines[1]]
    assert [line["step"] for line in lines[1]] == (list(range(9)) if log_every == 1 else [1, 2, 3, 5, 7, 8])


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
@pytest.mark.parametrize("log_every", [1, 2, 20])
def test_run_stopped_at_every_step_equals_uninterrupted_run(name, log_every, make_method, make_loader, tmp_path):
    """Also within a logged line and at the end of an epoch."""
    schedule, folders = Schedule(epochs=3, warmup_epochs=1, weight_decay_end=0.1), (tmp_path / "a", tmp_path / "b")
    options = {"name": name, "schedule": schedule, "log_every": log_every}
    uninterrupted = run(
        make_method, make_loader, run_dir=folders[0], callbacks=default_callbacks(folders[0]), **options
    )
    for stop in range(1, 11):
        stopper, method = StopAfter(stop), make_method(name)
        torch.manual_seed(stop)
        callbacks = [stopper, *default_callbacks(folders[1])]
        trainer = Trainer(folders[1], precision="fp32", device="cpu", log_every=log_every, callbacks=callbacks)
        stopper.trainer, optimizer = trainer, LARS(method.param_groups(1e-4), lr=0.3)
        state = trainer.fit(method, make_loader(name), optimizer, schedule, resume=stop > 1)
        assert (state.step, state.stopping) == ((stop, True) if stop < 10 else (9, False))
    assert_same(uninterrupted.state_dict(), state.state_dict())
    without_times = [
        [
            {**line, "images_per_second": 0, "data_wait": 0, "memory_gb": 0}
            for line in read_lines(folder / "metrics.jsonl")
        ]
        for folder in folders
    ]
    assert without_times[0] == without_times[1]


def test_resume_within_an_epoch_is_exact(make_method, make_loader, tmp_path):
    class SaveAt(Callback):
        def on_update(self, state):
            if state.step == 4:
                save_checkpoint(tmp_path / "checkpoints" / "last.pt", state.state_dict())

    uninterrupted = run(make_method, make_loader, callbacks=[SaveAt()])
    method, loader = make_method("simclr"), make_loader()
    trainer = Trainer(tmp_path, precision="fp32", device="cpu", callbacks=[])
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    resumed = trainer.fit(method, loader, optimizer, Schedule(epochs=3, warmup_epochs=1), resume=True)
    assert_same(uninterrupted.state_dict(), resumed.state_dict())


def test_resume_from_an_earlier_checkpoint_file_repeats_the_steps_after_it(make_method, make_loader, tmp_path):
    callbacks = [MetricsLog(tmp_path / "m.jsonl"), Checkpoints(tmp_path / "checkpoints", keep=1, keep_every=1)]
    uninterrupted = run(make_method, make_loader, run_dir=tmp_path, callbacks=callbacks)
    first = tmp_path / "checkpoints" / "epoch_0001.pt"
    resumed = run(make_method, make_loader, run_dir=tmp_path, callbacks=callbacks, resume=first)
    assert resumed.resumed_at == 3
    assert_same(uninterrupted.state_dict(), resumed.state_dict())
    assert [line["step"] for line in read_lines(tmp_path / "m.jsonl")] == [2, 5, 8]


def test_numpy_and_python_random_states_are_resumed(make_loader, tmp_path):
    class Noisy(MeanSquare):
        """Depends on three global generators."""

        def forward(self, views, progress):
            noise = np.random.rand() + random.random() + torch.rand(()).item()
            return StepOutput(noise * super().forward(views, progress).loss)

    def train(folder, crash_after=None, resume=False):
        method = Noisy()
        callbacks = [*default_callbacks(folder), *([CrashAfter(crash_after)] if crash_after else [])]
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
        seed_everything(99 if resume else 0)
        trainer = Trainer(folder, callbacks=callbacks, precision="fp32", device="cpu")
        return trainer.fit(method, make_loader(), optimizer, Schedule(epochs=3), resume=resume).state_dict()

    uninterrupted = train(tmp_path / "a")
    with pytest.raises(CrashError):
        train(tmp_path / "b", crash_after=5)
    assert_same(train(tmp_path / "b", resume=True), uninterrupted)


def test_checkpoint_of_another_version_is_refused(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))
    path = tmp_path / "checkpoints" / "last.pt"
    saved = load_checkpoint(path)
    del saved["lines"], saved["format"]
    save_checkpoint(path, saved)
    with pytest.raises(CheckpointError, match="lacks lines: another version of ssl_lib saved it"):
        run(make_method, make_loader, run_dir=tmp_path, resume=True)


def test_resume_with_another_batch_size_length_or_method_is_refused(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))

    def resume(name="simclr", batch_size=32, epochs=3):
        method = make_method(name)
        trainer = Trainer(tmp_path, callbacks=[], precision="fp32", device="cpu")
        optimizer = LARS(method.param_groups(0.0), lr=0.3)
        trainer.fit(method, make_loader(name, batch_size), optimizer, Schedule(epochs=epochs), resume=True)

    with pytest.raises(CheckpointError, match="batch_size"):
        resume(batch_size=16)
    with pytest.raises(CheckpointError, match="saved with total_steps 9, but this run has 6"):
        resume(epochs=2)
    with pytest.raises(CheckpointError, match="does not fit"):
        resume(name="byol")


def test_resume_without_a_checkpoint_is_refused(make_method, make_loader, tmp_path):
    method = make_method("simclr")
    with pytest.raises(CheckpointError, match="no run at"):
        Trainer(tmp_path, callbacks=[]).fit(method, make_loader(), LARS(method.parameters(), lr=0.1), resume=True)


def test_new_run_in_the_folder_of_another_run_is_refused(make_method, make_loader, tmp_path):
    run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))
    with pytest.raises(CheckpointError, match="already holds a run"):
        run(make_method, make_loader, run_dir=tmp_path, callbacks=default_callbacks(tmp_path))


def test_loaded_checkpoint_is_used_once_and_not_after_another_process_has_trained(make_method, make_loader, tmp_path):
    def fit(epochs, resume=False):
        callbacks = [Checkpoints(tmp_path / "checkpoints"), *([CrashAfter(epochs * 3 + 1)] if epochs < 3 else [])]
        with contextlib.suppress(CrashError):
            return run(make_method, make_loader, run_dir=tmp_path, callbacks=callbacks, resume=resume)

    fit(1)
    loaded = open_checkpoint(tmp_path)
    assert loaded.step == 3 and not loaded.outdated
    fit(2, resume=True)
    assert loaded.outdated
    assert fit(3, resume=loaded).resumed_at == 6
    taken = open_checkpoint(tmp_path)
    fit(3, resume=taken)
    assert taken.step == 9
    with pytest.raises(CheckpointError, match="is in use already: load the checkpoint again"):
        fit(3, resume=taken)
