"""Learning rate and weight decay schedules compared with the reference implementations."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lib.optim import LARS, Schedule, cosine_schedule, param_groups
from ssl_lib.registry import OPTIMIZERS
from ssl_lib.types import Progress


def linspace_warmup(base: float, final: float, total: int, warmup: int, start: float) -> np.ndarray:
    """Schedule of DINO and SwAV as an array over all updates."""
    rising = np.linspace(start, base, warmup)
    falling = np.arange(total - warmup)
    return np.concatenate([rising, final + 0.5 * (base - final) * (1 + np.cos(np.pi * falling / len(falling)))])


def plain_warmup(base: float, final: float, total: int, warmup: int) -> np.ndarray:
    """Schedule of VICReg and Barlow Twins as an array over all updates."""
    steps = np.arange(total)
    fraction = 0.5 * (1 + np.cos(np.pi * (steps - warmup) / (total - warmup)))
    return np.where(steps < warmup, base * steps / max(warmup, 1), base * fraction + final * (1 - fraction))


@pytest.mark.parametrize("warmup", [0, 1, 2, 30, 99])
def test_cosine_schedule_equals_dino_at_every_step(warmup):
    ours = [cosine_schedule(s, 100, 5e-4, 1e-6, warmup, 1e-5, warmup_endpoint=True) for s in range(100)]
    np.testing.assert_allclose(ours, linspace_warmup(5e-4, 1e-6, 100, warmup, 1e-5), rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("warmup", [0, 1, 2, 30, 99])
def test_cosine_schedule_equals_vicreg_at_every_step(warmup):
    ours = [cosine_schedule(s, 100, 0.8, 0.0008, warmup) for s in range(100)]
    np.testing.assert_allclose(ours, plain_warmup(0.8, 0.0008, 100, warmup), rtol=1e-12, atol=1e-18)


def test_value_at_total_steps_is_end():
    assert cosine_schedule(10, 10, 0.996, 1.0) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("step", "total", "warmup", "message"),
    [
        (-1, 10, 0, "got step -1 of 10"),
        (11, 10, 0, "got step 11 of 10"),
        (0, 0, 0, "got step 0 of 0"),
        (0, 10, 10, "got 10 of 10"),
        (0, 10, -1, "got -1 of 10"),
    ],
)
def test_bad_step_counts_raise(step, total, warmup, message):
    with pytest.raises(ValueError, match=message):
        cosine_schedule(step, total, 1.0, 0.0, warmup)


@pytest.mark.parametrize("endpoint", [False, True])
def test_lr_factor_over_a_run(endpoint):
    schedule = Schedule(epochs=10, warmup_epochs=2.5, warmup_start=0.1, warmup_endpoint=endpoint, end=0.001)
    ours = [schedule.lr_factor(Progress(step, 80, 8)) for step in range(80)]
    if endpoint:
        expected = linspace_warmup(1.0, 0.001, 80, 20, 0.1)
    else:
        expected = np.concatenate([0.1 + 0.9 * np.arange(20) / 20, plain_warmup(1.0, 0.001, 80, 20)[20:]])
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_per_epoch_lr_factor_equals_simsiam():
    schedule = Schedule(epochs=10, per_epoch=True)
    ours = [schedule.lr_factor(Progress(step, 80, 8)) for step in range(80)]
    np.testing.assert_allclose(ours, np.repeat(0.5 * (1 + np.cos(np.pi * np.arange(10) / 10)), 8), rtol=1e-12)


@pytest.mark.parametrize("total", [1, 2, 3, 40])
def test_shortened_run_still_reaches_the_peak(total):
    schedule = Schedule(epochs=100, warmup_epochs=99)
    factors = [schedule.lr_factor(Progress(step, total, 8)) for step in range(total)]
    assert max(factors) == 1.0
    assert all(0.0 <= factor <= 1.0 for factor in factors)


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 4.0), ("sqrt", 2.0), ("none", 1.0)])
def test_peak_lr_scales_with_the_batch_size(scaling, factor):
    assert Schedule(lr_scaling=scaling).peak_lr(0.3, 1024) == pytest.approx(0.3 * factor, rel=1e-15)


@pytest.mark.parametrize(
    ("lr", "batch_size", "message"), [(-0.1, 256, "lr .* got -0.1"), (0.1, 0, "batch_size .* got 0")]
)
def test_bad_peak_lr_arguments_raise(lr, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Schedule().peak_lr(lr, batch_size)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", math.nan),
        ("warmup_epochs", -1),
        ("warmup_epochs", 100),
        ("warmup_start", 1.5),
        ("warmup_start", -0.1),
        ("end", math.nan),
        ("end", 2),
        ("lr_scaling", "log"),
        ("weight_decay_end", -0.4),
        ("weight_decay_end", math.inf),
    ],
)
def test_message_for_bad_value_names_field_and_value(field, value):
    with pytest.raises(ValueError, match=rf"{field} .*{value}"):
        Schedule(**{field: value})


def test_schedule_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schedule().epochs = 3
    with pytest.raises(TypeError):
        Schedule(100)


def make_groups() -> list[dict[str, object]]:
    weights = [nn.Parameter(torch.ones(2, 2)) for _ in range(4)]
    return [
        {"params": [weights[0]], "weight_decay": 0.04},
        {"params": [weights[1]], "weight_decay": 0.0, "lr_scale": 0.25},
        {"params": [weights[2]], "weight_decay": 0.1, "fixed_lr": True},
        {"params": [weights[3]], "weight_decay": 0.04, "fixed_lr": True, "lr_scale": 0.5},
    ]


def test_apply_sets_lr_and_weight_decay_of_every_group():
    optimizer = OPTIMIZERS["adamw"](make_groups(), lr=0.8)
    schedule = Schedule(epochs=10, warmup_epochs=2, end=0.01, weight_decay_end=0.4)
    lrs, decays = plain_warmup(0.8, 0.008, 40, 8), linspace_warmup(0.04, 0.4, 40, 0, 0)
    other_decays = linspace_warmup(0.1, 0.4, 40, 0, 0)
    for step in range(40):
        assert schedule.apply(optimizer, Progress(step, 40, 4)) == pytest.approx(lrs[step], rel=1e-12)
        actual = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        expected = [(lrs[step], decays[step]), (lrs[step] / 4, 0.0), (0.8, other_decays[step]), (0.4, decays[step])]
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_adamw_uses_the_scheduled_weight_decay():
    module = nn.Linear(3, 3)
    start = [parameter.detach().double().numpy().copy() for parameter in (module.weight, module.bias)]
    optimizer = OPTIMIZERS["adamw"](param_groups(module, 0.04), lr=0.1)
    schedule = Schedule(epochs=1, weight_decay_end=0.4)
    for step in range(5):
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        schedule.apply(optimizer, Progress(step, 5, 5))
        optimizer.step()
    shrink = np.prod(1 - linspace_warmup(0.1, 0.0, 5, 0, 0) * linspace_warmup(0.04, 0.4, 5, 0, 0))
    np.testing.assert_allclose(module.weight.detach().numpy(), start[0] * shrink, rtol=1e-6)
    np.testing.assert_array_equal(module.bias.detach().numpy(), start[1])


def test_weight_decay_is_constant_without_weight_decay_end():
    optimizer = OPTIMIZERS["sgd"](make_groups(), lr=0.8)
    Schedule().apply(optimizer, Progress(50, 100, 1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.04, 0.0, 0.1, 0.04]


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_resumed_run_follows_the_same_schedule(name):
    schedule = Schedule(epochs=5, warmup_epochs=1, weight_decay_end=0.4)

    def values(optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        out = []
        for step in steps:
            out.append(schedule.apply(optimizer, Progress(step, 20, 4)))
            out += [group[key] for group in optimizer.param_groups for key in ("lr", "weight_decay")]
        return out

    uninterrupted = values(OPTIMIZERS[name](make_groups(), lr=0.8), range(20))
    first = OPTIMIZERS[name](make_groups(), lr=0.8)
    start = values(first, range(7))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = OPTIMIZERS[name](make_groups(), lr=0.8)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert start + values(second, range(7, 20)) == uninterrupted


def test_apply_is_idempotent():
    optimizer = LARS(make_groups(), lr=0.8)
    schedule = Schedule(weight_decay_end=0.4)
    first = schedule.apply(optimizer, Progress(60, 100, 1)), [dict(g, params=None) for g in optimizer.param_groups]
    again = schedule.apply(optimizer, Progress(60, 100, 1)), [dict(g, params=None) for g in optimizer.param_groups]
    assert first == again
