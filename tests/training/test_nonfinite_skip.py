"""`skip_nonfinite`: updates with NaN or infinite values are skipped, and nothing changes."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_lib import Loader, NonFiniteLossError, Schedule, Trainer, ViewPipeline
from ssl_lib.distributed import rank
from ssl_lib.training.callbacks import Checkpoints, NonFiniteReport, ProgressBar
from tests.conftest import pattern_images, small_method, small_views
from tests.distributed_helper import run_processes
from tests.training.helpers import Recorder, assert_same
from tests.training.nonfinite_helper import (
    RecordStates,
    fit_with_bad_steps,
    infinite_gradient,
    infinite_loss,
    with_bad_steps,
)


@pytest.mark.parametrize("name", ["byol", "dino"])
@pytest.mark.parametrize("change_loss", [infinite_loss, infinite_gradient])
def test_skipped_update_changes_nothing(name, change_loss, train_with_bad_steps):
    states, recorder = RecordStates(), Recorder()
    train_with_bad_steps(name, [4], change_loss, callbacks=[states, recorder], skip_nonfinite=1, log_every=1)
    before, after = states.states[4], states.states[5]
    assert_same(before["method"], after["method"])
    assert_same(before["optimizer"]["state"], after["optimizer"]["state"])
    generators = [state["processes"][0]["rng"]["cpu"] for state in (before, after)]
    assert not torch.equal(*generators), "the random generator must advance"
    assert not all(torch.equal(after["method"][key], states.states[6]["method"][key]) for key in after["method"])
    assert [(found.step, found.skipped, len(found.indices)) for found in states.found] == [(4, 1, 32)]
    assert [line.get("skipped") for line in recorder.lines] == [None] * 4 + [1] + [None] * 4
    assert "loss" not in recorder.lines[4] and all(map(math.isfinite, [line.get("loss", 0) for line in recorder.lines]))


def test_too_many_skipped_updates_in_a_row_stop_the_run(train_with_bad_steps):
    recorder = RecordStates()
    train_with_bad_steps("simclr", [1, 2, 4, 5], infinite_loss, callbacks=[recorder], skip_nonfinite=2)
    assert [found.skipped for found in recorder.found] == [1, 2, 1, 2]
    recorder = RecordStates()
    with pytest.raises(NonFiniteLossError, match=r"inf at step 5.*The 2 updates before it were skipped"):
        train_with_bad_steps("simclr", [3, 4, 5], infinite_loss, callbacks=[recorder], skip_nonfinite=2)
    assert [found.skipped for found in recorder.found] == [1, 2, 0]


def test_message_for_one_skipped_update_is_singular(train_with_bad_steps):
    with pytest.raises(NonFiniteLossError, match=r"\. The update before it was skipped\."):
        train_with_bad_steps("simclr", [3, 4], infinite_loss, skip_nonfinite=1)


def test_nan_in_one_micro_batch_skips_the_whole_update(train_with_bad_steps):
    calls = []

    def nan_in_third_call(loss):
        calls.append(loss)
        return loss + (math.nan if len(calls) == 3 else 0.0)

    recorder = RecordStates()
    train_with_bad_steps("simclr", [4], nan_in_third_call, callbacks=[recorder], accumulate=4, skip_nonfinite=1)
    assert len(calls) == 4 and len(recorder.found[0].indices) == 32
    assert_same(recorder.states[4]["method"], recorder.states[5]["method"])


def test_fp16_skips_infinite_losses(make_method, make_loader):
    method, recorder = with_bad_steps(make_method("simclr"), [1, 2], infinite_loss), RecordStates()
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(callbacks=[recorder], precision="fp16", device="cpu", skip_nonfinite=2)
    trainer.fit(method, make_loader(), optimizer, Schedule(epochs=2))
    assert [found.step for found in recorder.found] == [1, 2]
    assert_same(recorder.states[1]["method"], recorder.states[3]["method"])


def test_stopped_run_resumes_with_skipping(train_with_bad_steps, tmp_path):
    callbacks = [Checkpoints(tmp_path / "checkpoints"), NonFiniteReport(tmp_path)]
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [4], infinite_loss, tmp_path, callbacks)
    state = train_with_bad_steps("simclr", [4], infinite_loss, tmp_path, callbacks, resume=True, skip_nonfinite=1)
    assert state.finished and not list(tmp_path.glob("nonfinite.*"))
    uninterrupted = train_with_bad_steps("simclr", [4], infinite_loss, skip_nonfinite=1)
    assert_same(state.state_dict(), uninterrupted.state_dict())


def test_epoch_of_skipped_updates_is_reported_and_training_continues(train_with_bad_steps, capsys):
    train_with_bad_steps(
        "simclr", [0, 1, 2, 4], infinite_loss, callbacks=[ProgressBar()], skip_nonfinite=3, log_every=1
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if "step" in line and "skipped: " not in line]
    assert lines[0].endswith("all updates skipped") and "loss" in lines[1]
    loss = float(lines[1].split("loss ")[1].split()[0])
    assert 3 < loss < 15  # the mean over the updates that were made


def skip_in_one_bad_process():
    """The steps that this process skips if only the second process has an infinite loss, at step 4."""
    images, recorder = pattern_images(), RecordStates()
    recorder.every_rank = True
    loader = Loader(images, ViewPipeline(small_views("simclr"), images.mean, images.std), batch_size=32)
    bad_steps = [4] if rank() == 1 else []
    fit_with_bad_steps(small_method("simclr"), loader, bad_steps, infinite_loss, callbacks=[recorder], skip_nonfinite=1)
    return {"skipped": torch.tensor([found.step for found in recorder.found])}


@pytest.mark.slow
def test_all_processes_skip_together(tmp_path):
    for result in run_processes(skip_in_one_bad_process, (2,), tmp_path)[2]:
        assert result["skipped"].tolist() == [4]
