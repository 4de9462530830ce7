"""Invalid arguments of Trainer and fit are refused with a message that names them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lib import LARS, Schedule, StepOutput, Trainer
from tests.training.helpers import MeanSquare, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accumulate": 0}, "at least 1"),
        ({"log_every": 0}, "at least 1"),
        ({"skip_nonfinite": -1}, "skip_nonfinite at least 0, got 1, 20 and -1"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0, .* got clip_norm 0.0"),
        ({"clip_per_parameter": True}, "clip_norm must be above 0, .* got clip_norm None"),
    ],
)
def test_number_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Trainer(callbacks=[], **arguments)


def test_accumulation_that_does_not_divide_the_batch_is_refused(make_method, make_loader):
    method = make_method("simclr")
    with pytest.raises(
        ValueError, match="batch_size 32 cannot be divided by accumulate 3: the nearest valid sizes are 30 and 33"
    ):
        Trainer(callbacks=[], accumulate=3).fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.1))


def test_optimizer_with_other_parameters_is_refused(make_method, make_loader):
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


def test_arguments_in_the_wrong_order_are_refused(make_method, make_loader):
    method, loader = make_method("simclr"), make_loader()
    optimizer = LARS(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(callbacks=[])
    with pytest.raises(TypeError, match="expected a Method, got Loader"):
        trainer.fit(loader, method, optimizer)
    with pytest.raises(TypeError, match=r"fit\(method, loader, optimizer, schedule\): .*Loader.*, got \[1\]"):
        trainer.fit(method, [1], optimizer)
    with pytest.raises(TypeError, match=r"Schedule.*, got 5"):
        trainer.fit(method, loader, optimizer, 5)


def test_processes_without_a_process_group_are_refused(make_method, make_loader, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"2 processes .* not joined.*ssl_lib.started\(\)"):
        run(make_method, make_loader)


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
def test_wrong_output_of_forward_is_refused(returned, error, message, make_loader):
    class Returns(MeanSquare):
        def forward(self, views, progress):
            return returned(self.backbone(views.large[0]))

    method = Returns()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    with pytest.raises(error, match=message):
        Trainer(callbacks=[], precision="fp32", device="cpu").fit(method, make_loader(), optimizer)


def test_detached_loss_is_refused(make_loader):
    class Detached(MeanSquare):
        def forward(self, views, progress):
            return StepOutput(super().forward(views, progress).loss.detach())

    method = Detached()
    with pytest.raises(ValueError, match="depends on no trainable parameter: was it detached"):
        Trainer(callbacks=[]).fit(method, make_loader(), torch.optim.SGD(method.parameters(), lr=0.1))
