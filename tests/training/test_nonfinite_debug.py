"""`debug_nonfinite`: the error names the module, and for gradients the operation, in which a NaN arose."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lib import Method, NonFiniteLossError, Schedule, StepOutput, Trainer
from ssl_lib.training.callbacks import Callback, Checkpoints, NonFiniteReport
from tests.conftest import TinyBackbone
from tests.training.helpers import assert_same
from tests.training.nonfinite_helper import infinite_loss


class InfiniteForOneImage(Method):
    """The input of `layer` is infinite for image 17, in the second of two views that share a forward pass."""

    def __init__(self):
        super().__init__()
        self.backbone, self.layer = TinyBackbone(), nn.Identity()

    def forward(self, views, progress):
        hit = torch.cat([torch.zeros(len(views.indices)), (views.indices == 17).float()])
        return StepOutput(self.layer(self.backbone(torch.cat(views.large)) / (1 - hit[:, None])).mean())


def debug(method, loader, lr=0.0, run_dir=None):
    """The error message of a run with `debug_nonfinite`."""
    optimizer = torch.optim.SGD(method.parameters(), lr=lr)
    trainer = Trainer(run_dir, callbacks=[], device="cpu", precision="fp32", debug_nonfinite=True)
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit(method, loader, optimizer, Schedule(epochs=1))
    assert not torch.is_anomaly_enabled() and not any(m._forward_hooks for m in method.modules())
    return str(caught.value)


def test_error_names_the_first_module_with_a_nonfinite_output(make_loader):
    method = InfiniteForOneImage()
    with torch.no_grad():
        method.backbone[1].bias.fill_(1.0)  # otherwise a feature may be zero, and 0/0 is NaN
    error = debug(method, make_loader(batch_size=96))
    assert "The first module with a non-finite output is layer (Identity); its input is not finite" in error


def test_error_names_operation_and_line_of_a_nan_gradient(make_loader):
    class NaNGradient(InfiniteForOneImage):
        def forward(self, views, progress):
            z = self.backbone(views.large[0])
            zero = (z - z.detach()).sum()
            return StepOutput(z.mean() + 0 * zero.abs().sqrt())  # the gradient is 0 * infinity

    error = debug(NaNGradient(), make_loader(batch_size=96))
    assert "a gradient became NaN or infinite at step 0" in error
    assert "The first non-finite gradient is that of SqrtBackward0, called in " in error
    assert "test_nonfinite_debug.py, line " in error and "zero.abs().sqrt()" in error


def test_debugging_starts_at_the_step_in_the_report(train_with_bad_steps, tmp_path):
    callbacks = [Checkpoints(tmp_path / "checkpoints"), NonFiniteReport(tmp_path)]
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("dino", [4], infinite_loss, tmp_path, callbacks)
    anomaly_modes = []

    class RecordAnomalyMode(Callback):
        def on_update(self, state):
            anomaly_modes.append((state.step, torch.is_anomaly_enabled()))

    def infinite_loss_with_anomaly_mode(loss):
        anomaly_modes.append(("bad loss", torch.is_anomaly_enabled()))
        return infinite_loss(loss)

    options = {"callbacks": [*callbacks, RecordAnomalyMode()], "resume": True, "debug_nonfinite": True}
    with pytest.raises(NonFiniteLossError, match=r"at step 4.*output of every module is finite"):
        train_with_bad_steps("dino", [4], infinite_loss_with_anomaly_mode, tmp_path, **options)
    assert anomaly_modes == [(4, False), ("bad loss", True)]  # resumed at step 3; the update of step 4 fails


def test_nan_loss_is_not_blamed_on_an_operation_of_the_backward_pass(make_loader):
    class NaNLoss(InfiniteForOneImage):
        def forward(self, views, progress):
            return StepOutput(self.backbone(views.large[0]).mean() * torch.nan)

    error = debug(NaNLoss(), make_loader(batch_size=96))
    assert "the loss became nan at step 0" in error
    assert "The output of every module is finite, so it arose in the loss" in error and "Backward0" not in error


def test_debugging_leaves_skipped_updates_skipped(train_with_bad_steps):
    options = {"skip_nonfinite": 1, "debug_nonfinite": True}
    assert train_with_bad_steps("simclr", [4], infinite_loss, **options).finished


def test_debugging_repeats_the_steps_bit_for_bit(train_with_bad_steps):
    plain, debugged = (
        train_with_bad_steps("dino", [], infinite_loss, debug_nonfinite=debugging) for debugging in (False, True)
    )
    assert_same(plain.state_dict(), debugged.state_dict())
