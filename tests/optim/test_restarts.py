"""Schedules of runs that were made longer: the learning rate restarts, all other values stay at their last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lib import Progress, Schedule
from ssl_lib.registry import OPTIMIZERS


def cosine(start, end, steps):
    """Half a cosine in float64, without its last value."""
    return end + (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2


def factors(schedule, steps_per_epoch):
    total = schedule.total_steps(steps_per_epoch)
    return [schedule.lr_factor(Progress(step, total, steps_per_epoch)) for step in range(total)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"warmup_epochs": 0.7, "warmup_start": 0.1},
        {"warmup_epochs": 1.0, "warmup_endpoint": True, "end": 0.01},
        {"warmup_epochs": 0.5, "per_epoch": True},
    ],
)
@pytest.mark.parametrize("epochs", [2, 1.3])
def test_curve_up_to_the_first_end_stays_as_it_was_and_cosines_follow(arguments, epochs):
    first = Schedule(epochs=epochs, **arguments)
    longer = Schedule(epochs=6, restarts=((epochs, 0.5), (4, 0.2)), **arguments)
    before, after = factors(first, 10), factors(longer, 10)
    assert after[: len(before)] == before and len(after) == 60
    if "per_epoch" not in arguments:
        end = arguments.get("end", 0.0)
        expected = [*cosine(0.5, end, 40 - len(before)), *cosine(0.2, end, 20)]
        np.testing.assert_allclose(after[len(before) :], expected, rtol=1e-12)


def test_rate_of_a_restart_that_changes_per_epoch_is_constant_in_each_epoch():
    after = factors(Schedule(epochs=4, restarts=((1.5, 0.5),), per_epoch=True), 10)[15:]
    curve = cosine(0.5, 0.0, 25)
    np.testing.assert_allclose(after, [curve[0]] * 5 + [curve[5]] * 10 + [curve[15]] * 10, rtol=1e-12)


def test_weight_decay_stays_at_its_final_value_after_a_restart():
    optimizer = OPTIMIZERS["adamw"]([nn.Parameter(torch.ones(2, 2))], lr=0.1, weight_decay=0.04)
    schedule, decays = Schedule(epochs=3, restarts=((2, 0.5),), weight_decay_end=0.4), []
    for step in range(12):
        schedule.apply(optimizer, Progress(step, 12, 4))
        decays.append(optimizer.param_groups[0]["weight_decay"])
    np.testing.assert_allclose(decays, [*cosine(0.04, 0.4, 8), *[0.4] * 4], rtol=1e-12)


def test_progress_of_the_schedules_ends_before_a_restart():
    steps = [Progress(step, 12, 4, schedule_steps=8) for step in (0, 4, 8, 11)]
    assert [progress.fraction for progress in steps] == [0, 0.5, 1, 1]
    assert [progress.settled for progress in steps] == [Progress(step, 8, 4) for step in (0, 4, 8, 8)]
    assert [progress.epoch for progress in steps] == [0, 1, 2, 2]
    assert Progress(5, 12, 4).settled == Progress(5, 12, 4) and Progress(6, 12, 4).fraction == 0.5


@pytest.mark.parametrize(
    ("schedule", "trained", "finished", "restarts"),
    [
        (Schedule(epochs=3), (3, ()), False, ()),
        (Schedule(epochs=4), (3, ()), True, ((3, 0.5),)),
        (Schedule(epochs=4, restart_lr=0.1), (3, ()), True, ((3, 0.1),)),
        (Schedule(epochs=4), (4, ((3, 0.1),)), False, ((3, 0.1),)),
        (Schedule(epochs=5), (4, ((3, 0.1),)), True, ((3, 0.1), (4, 0.5))),
        (Schedule(epochs=5, restarts=((3, 0.1),)), (4, ((3, 0.1),)), True, ((3, 0.1), (4, 0.5))),
        (Schedule(epochs=5, restarts=((3, 0.1), (4, 0.2))), (4, ((3, 0.1),)), True, ((3, 0.1), (4, 0.2))),
        (Schedule(epochs=4, restarts=((3, 0.5),)), (3, ()), False, ((3, 0.5),)),  # the newest checkpoint was damaged
    ],
)
def test_schedule_of_a_resumed_run(schedule, trained, finished, restarts):
    resumed = schedule.resumed(*trained, finished=finished)
    assert (resumed.epochs, resumed.restarts) == (schedule.epochs, restarts)
    assert resumed.continues(*trained)


@pytest.mark.parametrize(
    ("schedule", "trained", "finished"),
    [
        (Schedule(epochs=4), (3, ()), False),
        (Schedule(epochs=2), (3, ()), True),
        (Schedule(epochs=5), (4, ((3, 0.1),)), False),
        (Schedule(epochs=3), (4, ((3, 0.1),)), True),
        (Schedule(epochs=4, restarts=((3, 0.2),)), (4, ((3, 0.1),)), True),
        (Schedule(epochs=4, restarts=((2, 0.5),)), (3, ()), True),
    ],
)
def test_schedule_that_does_not_continue_a_run_is_left_alone(schedule, trained, finished):
    assert schedule.resumed(*trained, finished=finished) == schedule
    assert not schedule.continues(*trained)


@pytest.mark.parametrize(
    "arguments",
    [
        {"restarts": ((3, 0.5),)},
        {"restarts": ((0, 0.5),)},
        {"restarts": ((2, 0.5), (1, 0.5))},
        {"restarts": ((2, 0.5), (2, 0.5))},
        {"restarts": ((2, 1.5),)},
        {"restarts": ((2, float("nan")),)},
        {"restarts": ((1, 0.5),), "warmup_epochs": 1},
        {"restart_lr": 1.5},
        {"restart_lr": -0.1},
    ],
)
def test_bad_restarts_raise(arguments):
    with pytest.raises(ValueError, match=r"restart.* in \[0, 1\]; got"):
        Schedule(epochs=3, **arguments)
