"""Tests of `ssl-lib sweep`."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from ssl_lib.cli.main import main
from ssl_lib.cli.sweep import _choices, _folder_name
from tests.cli.conftest import error_of
from tests.fork_server import ended, fork

SMALL = ["schedule={epochs: 0.05, warmup_epochs: 0}", "backbone.width=8", "evaluation={linear: null, knn: {k: 5}}"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0,1,2", ["0", "1", "2"]),
        ("views.crop_scale=[0.2,1],[0.4, 1]", ["[0.2,1]", "[0.4, 1]"]),
        ("method={name: byol, momentum: 0.9},simclr", ["{name: byol, momentum: 0.9}", "simclr"]),
        ("data.root='a,b',c", ["'a,b'", "c"]),
        ("seed=3", ["3"]),
        ("data.root=", [""]),
    ],
)
def test_values_are_split_at_commas_outside_brackets_and_quotes(text, values):
    assert _choices(text)[1] == values


def test_folder_name_contains_the_values():
    assert _folder_name(["seed=0", "views.crop_scale=[0.2, 1]"]) == "seed=0,views.crop_scale=_0.2_1_"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0"], "more than one value"),
        (["seed"], "cannot read 'seed'"),
        (["seed=0,,1"], "a value between two commas is missing"),
        (["seed=1,1"], "a value is given twice"),
        (["seed=0,1", "run_dir=a,b"], "run_dir: give one folder"),
        (["method.temperature=0.1,-1x"], "method.temperature"),
        (["trainer.save_every=1,0"], "save_every, keep and keep_every must be at least 1, got 0"),
        (["trainer.accumulate=1,3"], "cannot be divided by accumulate 3"),
        (["trainer.batch_size=0,8"], "batch_size must be at least 1"),
        (["method.temprature=0.1,0.2"], "Did you mean 'method.temperature'"),
    ],
)
def test_sweep_refuses_wrong_arguments_before_the_first_run(arguments, message, capsys):
    assert message in error_of(capsys, "sweep", "quickstart", *arguments)
    assert not list(Path().iterdir())


def start_sweep(folder, *arguments):
    """Starts a sweep of `quickstart` in a process of its own."""
    command = ["sweep", "quickstart", *SMALL, f"run_dir={folder / 'sweep'}", *arguments]
    return fork(main, command, out=folder / "out", err=folder / "err")


@pytest.mark.slow
def test_interrupted_sweep_continues_and_compares_its_runs(tmp_path):
    interrupted, runs = start_sweep(tmp_path, "seed=0,1", "schedule.epochs=3"), tmp_path / "sweep"
    while not list(runs.glob("*/metrics.jsonl")):
        assert interrupted.is_alive() and not time.sleep(0.2)
    os.kill(interrupted.pid, signal.SIGINT)
    assert ended(interrupted) == 130 and "the same command continues it" in (tmp_path / "err").read_text()
    (first,) = runs.iterdir()
    assert first.name == "seed=0"

    continued = start_sweep(tmp_path, "seed=0,1", "schedule.epochs=3")
    assert ended(continued) == 0, (tmp_path / "err").read_text()
    assert f"{first} and 1 other seed" in (tmp_path / "out").read_text()
    results = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/evaluation.json")}
    assert results.keys() == {"seed=0", "seed=1"}
    assert all(result["steps"] == 3 * 46 for result in results.values())


@pytest.mark.slow
def test_sweep_continues_after_a_run_that_fails(tmp_path):
    both = start_sweep(tmp_path, "trainer.batch_size=100,7000")
    assert ended(both) == 2 and "1 of 2 runs failed" in (tmp_path / "err").read_text()
    table = (tmp_path / "out").read_text()
    assert "trainer.batch_size=100" in table and "trainer.batch_size=7000" not in table
