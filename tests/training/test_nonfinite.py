"""NaN and infinite losses, gradients and weights stop the run, with a message that names the likely cause."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ssl_lib import LARS, NonFiniteLossError, Schedule, Trainer
from ssl_lib.training.callbacks import Checkpoints
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.nonfinite import judge_update
from tests.training.helpers import BadLossAt, MeanSquare, Recorder
from tests.training.nonfinite_helper import (
    SCHEDULE,
    RecordStates,
    checking_late,
    infinite_gradient,
    infinite_loss,
    with_bad_steps,
)


@pytest.fixture
def check_late():
    with checking_late():
        yield


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
def test_nonfinite_loss_stops_the_run_and_keeps_the_checkpoint(value, poison, message, make_loader, tmp_path):
    method, recorder = BadLossAt(4, value, poison), Recorder()
    trainer = Trainer(
        tmp_path, callbacks=[recorder, Checkpoints(tmp_path / "checkpoints")], precision="fp32", device="cpu"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.0), Schedule(epochs=3))
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["step"] == 3
    assert all(value.isfinite().all() for value in saved["method"].values())
    assert recorder.ends == 1


def test_nonfinite_weights_at_the_end_of_an_epoch_are_not_saved(make_loader, tmp_path):
    class PoisonWeights(BadLossAt):
        """Makes a weight NaN after the last update of the second epoch; every loss is finite."""

        def after_update(self, progress):
            if progress.step == 5:
                next(self.backbone.parameters()).data.fill_(float("nan"))

    method = PoisonWeights(at=100, value=0.0)
    trainer = Trainer(tmp_path, callbacks=[Checkpoints(tmp_path / "checkpoints")], precision="fp32", device="cpu")
    with pytest.raises(NonFiniteLossError, match="weights became NaN or infinite by step 5"):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.0), Schedule(epochs=3))
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["step"] == 3 and all(value.isfinite().all() for value in saved["method"].values())


def test_nonfinite_gradient_stops_the_run_before_the_optimizer_steps(train_with_bad_steps):
    recorder = RecordStates()
    with pytest.raises(NonFiniteLossError, match=r"gradient became NaN or infinite at step 4, in fp32, at lr .*finite"):
        train_with_bad_steps("simclr", [4], infinite_gradient, callbacks=[recorder])
    assert max(recorder.states) == 4 and math.isfinite(recorder.found[0].loss)


def test_late_check_names_the_gradient_and_not_the_nan_losses_after_it(train_with_bad_steps, check_late):
    with pytest.raises(NonFiniteLossError, match="a gradient became NaN or infinite at step 4"):
        train_with_bad_steps("simclr", [4], infinite_gradient, log_every=9)


def test_late_check_names_the_cause_at_the_step_itself(make_loader, check_late):
    """The weights are already NaN when the loss is checked."""

    class NaNLoss(MeanSquare):
        def forward(self, views, progress):
            output = super().forward(views, progress)
            return dataclasses.replace(output, loss=output.loss * (float("nan") if progress.step == 4 else 1.0))

    method = NaNLoss()
    trainer = Trainer(callbacks=[], precision="fp32", device="cpu", log_every=6)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    with pytest.raises(NonFiniteLossError, match=r"at step 4, .* the embeddings are finite, so it arose in the loss"):
        trainer.fit(method, make_loader(), optimizer, Schedule(epochs=3))
    assert not all(parameter.isfinite().all() for parameter in method.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("change_loss", [infinite_loss, infinite_gradient])
def test_check_on_cuda_needs_no_synchronization_in_a_step(change_loss, make_method, make_loader):
    def judge_without_sync(state, **options):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return judge_update(state, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_lib.training.update.judge_update", judge_without_sync)
        method = with_bad_steps(make_method("simclr"), [4], change_loss)
        trainer = Trainer(callbacks=[], precision="fp32", device="cuda", log_every=9)
        with pytest.raises(NonFiniteLossError, match="at step 4"):
            trainer.fit(method, make_loader(), LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE)
