"""Precision: fp16 loss scaling, bf16, and compiled training."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import LARS, NonFiniteLossError, Progress, Schedule, StepOutput, Trainer
from ssl_lib.utils.precision import Precision
from tests.training.helpers import BadLossAt, CrashAfter, CrashError, InitialScale, Recorder, run


def test_fp16_overflow_skips_the_update_and_the_teacher(make_method, make_loader):
    """A far too large scale overflows the gradients; nothing may change until the scale has decreased."""
    method, loader = make_method("dino"), make_loader("dino")
    before = {key: value.clone() for key, value in method.state_dict().items()}

    trainer = Trainer(callbacks=[InitialScale(2.0**100), CrashAfter(1)], precision="fp16", device="cpu")
    with pytest.raises(CrashError):
        trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=1))
    for key, _ in method.named_parameters():
        assert torch.equal(method.state_dict()[key], before[key]), key
    assert torch.equal(method.loss.center, before["loss.center"])
    method.after_update(Progress(0, 1, 1))
    assert torch.equal(method.loss.center, before["loss.center"]), "the skipped update's sums are discarded"


def test_fp16_that_overflows_at_any_scale_stops_the_run(make_loader):
    class Overflows(BadLossAt):
        """A finite loss with an infinite gradient: the square root at zero."""

        def forward(self, views, progress):
            z = self.backbone(views.large[0])
            return StepOutput((z - z.detach()).abs().sum().float().sqrt(), embeddings=z.detach())

    method = Overflows(at=0, value=0.0)
    trainer = Trainer(callbacks=[InitialScale(4.0)], precision="fp16", device="cpu")
    with pytest.raises(NonFiniteLossError, match="at any loss scale"):
        trainer.fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.1), Schedule(epochs=20))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_half_precision_losses_are_close_to_float32(precision, name, make_method, make_loader):
    losses = []
    for kind in ("fp32", precision):
        recorder = Recorder()
        method, loader = make_method(name), make_loader(name)
        trainer = Trainer(callbacks=[recorder, InitialScale(16.0)], precision=kind, device="cpu", log_every=1)
        trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.1), Schedule(epochs=2))
        losses.append([line["loss"] for line in recorder.lines])
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.05)


def test_auto_precision_is_bf16_only_if_the_hardware_supports_it():
    device = torch.device("cpu")
    fast = any(getattr(torch.cpu, f"_is_{name}_supported")() for name in ("avx512_bf16", "amx_tile"))
    assert Precision.resolve("auto", device).name == ("bf16" if fast else "fp32")


@pytest.mark.slow
def test_compiled_training_equals_eager_training(make_method, make_loader):
    a = run(make_method, make_loader, name="byol", schedule=Schedule(epochs=1))
    b = run(make_method, make_loader, name="byol", schedule=Schedule(epochs=1), compile=True)
    for key, value in a.method.state_dict().items():
        torch.testing.assert_close(value, b.method.state_dict()[key], rtol=1e-3, atol=1e-4)
