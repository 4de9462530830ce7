"""The peak learning rate: scaled once by the batch size of each fit, whatever was done to the optimizer before."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_lib import METHODS, Method, Progress, Schedule
from ssl_lib.registry import OPTIMIZERS


class SquareRoot(torch.optim.SGD):
    """An optimizer whose reference scales its learning rate by the square root of the batch size."""

    lr_scaling = "sqrt"


def make_optimizer(lr=0.3, weight_decay=0.04, **group):
    return OPTIMIZERS["lars"]([{"params": [nn.Parameter(torch.ones(2, 2))], **group}], lr, weight_decay=weight_decay)


def run(schedule, optimizer, batch_size, steps=10):
    """Applies a schedule at every step; returns the learning rates and weight decays of the first group."""
    schedule.prepare(optimizer, batch_size)
    values = []
    for step in range(steps):
        schedule.apply(optimizer, Progress(step, steps, steps))
        values.append(tuple(optimizer.param_groups[0][key] for key in ("lr", "weight_decay")))
    return values


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_second_fit_computes_its_own_peak(steps):
    optimizer = make_optimizer()
    run(Schedule(epochs=1), optimizer, 512, steps)
    assert run(Schedule(epochs=1), optimizer, 64) == run(Schedule(epochs=1), make_optimizer(), 64)
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.3 * 64 / 256) == 0.075


def test_second_fit_may_have_another_scaling():
    optimizer = make_optimizer()
    peaks = [run(Schedule(lr_scaling=scaling), optimizer, 64)[0][0] for scaling in ("linear", "sqrt", "none", "linear")]
    assert peaks == pytest.approx([0.075, 0.15, 0.3, 0.075])


def test_group_scale_is_not_part_of_the_next_peak():
    optimizer = make_optimizer(lr_scale=0.5)
    first = run(Schedule(), optimizer, 64)
    assert run(Schedule(), optimizer, 64) == first and first[0][0] == pytest.approx(0.3 / 4 / 2)


def test_learning_rate_and_weight_decay_set_between_two_fits_are_used():
    optimizer = make_optimizer()
    run(Schedule(weight_decay_end=0.4), optimizer, 64)
    optimizer.param_groups[0].update(lr=0.1, weight_decay=0.01)
    expected = run(Schedule(weight_decay_end=0.4), make_optimizer(0.1, 0.01), 512)
    assert run(Schedule(weight_decay_end=0.4), optimizer, 512) == expected


@pytest.mark.parametrize("end", [None, 0.2])
def test_weight_decay_of_a_second_fit_starts_at_its_first_value(end):
    optimizer = make_optimizer()
    run(Schedule(weight_decay_end=0.4), optimizer, 64)
    assert optimizer.param_groups[0]["weight_decay"] > 0.3
    second = Schedule(weight_decay_end=end)
    assert run(second, optimizer, 64) == run(second, make_optimizer(), 64)


@pytest.mark.parametrize(
    "make_scheduler",
    [
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10),
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
    ],
)
@pytest.mark.parametrize("steps", [0, 3])
def test_torch_scheduler_does_not_skip_the_scaling(make_scheduler, steps):
    optimizer = make_optimizer()
    scheduler = make_scheduler(optimizer)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    assert run(Schedule(), optimizer, 64) == run(Schedule(), make_optimizer(), 64)


def test_optimizer_state_of_an_earlier_fit_does_not_keep_its_peak():
    first, second = make_optimizer(), make_optimizer()
    run(Schedule(), first, 512)
    second.load_state_dict(first.state_dict())
    assert run(Schedule(), second, 64) == run(Schedule(), make_optimizer(), 64)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_every_method_and_optimizer_scales_linearly_by_default(method, name):
    optimizer = OPTIMIZERS[name]([nn.Parameter(torch.ones(2))], lr=0.3)
    scaled = Schedule().scaled_for(METHODS[method], optimizer)
    assert scaled.lr_scaling == "linear" and scaled.peak_lr(0.3, 64) == 0.075


def test_own_scaling_comes_before_the_methods_and_the_methods_before_the_optimizers():
    class Unscaled(Method):
        lr_scaling = "none"

        def forward(self, views, progress):
            raise NotImplementedError

    method, optimizer = Unscaled(), SquareRoot([nn.Parameter(torch.ones(2))], lr=0.3)
    assert Schedule().scaled_for(nn.Identity(), optimizer).lr_scaling == "sqrt"
    assert Schedule().scaled_for(method, optimizer).lr_scaling == "none"
    assert Schedule(lr_scaling="linear").scaled_for(method, optimizer).lr_scaling == "linear"
    optimizer.lr_scaling = "cubic"
    with pytest.raises(ValueError, match="lr_scaling must be 'linear', 'sqrt' or 'none', got 'cubic'"):
        Schedule().scaled_for(optimizer)


@pytest.mark.parametrize(
    ("scaling", "text"),
    [
        (None, "0.075 = 0.3 x 64 / 256"),
        ("linear", "0.075 = 0.3 x 64 / 256"),
        ("sqrt", "0.15 = 0.3 x sqrt(64 / 256)"),
        ("none", "0.3, not scaled by the batch size"),
    ],
)
def test_description_names_the_peak_and_its_computation(scaling, text):
    schedule, optimizer = Schedule(lr_scaling=scaling), make_optimizer()
    schedule.prepare(optimizer, 64)
    assert schedule.describe_peak(optimizer, 64) == f"peak learning rate {text}"
    if scaling != "none":
        peak, formula = text.split(" = ")
        assert float(peak) == pytest.approx(eval(formula.replace("x", "*"), {"sqrt": math.sqrt}))


def test_description_lists_different_rates_once():
    weights = [nn.Parameter(torch.ones(2, 2)) for _ in range(3)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.1}, {"params": [weights[2]]}]
    optimizer = OPTIMIZERS["sgd"](groups, lr=0.3)
    Schedule().prepare(optimizer, 512)
    text = "peak learning rate 0.6 = 0.3 x 512 / 256, 0.2 = 0.1 x 512 / 256"
    assert Schedule().describe_peak(optimizer, 512) == text
