"""A config with every combination of some values."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssl_lib.cli import main
from ssl_lib.commands.sweep import _choices, _folder_name

ROOT = Path(__file__).parents[2]
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
def test_values_are_parted_outside_of_brackets_and_quotes(text, values):
    assert _choices(text)[1] == values


def test_a_folder_is_named_by_its_values():
    assert _folder_name(["seed=0", "views.crop_scale=[0.2, 1]"]) == "seed=0,views.crop_scale=_0.2_1_"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=0"], "more than one value"),
        (["seed"], "cannot read 'seed'"),
        (["seed=0,,1"], "no value between two commas"),
        (["seed=1,1"], "a value is given twice"),
        (["seed=0,1", "run_dir=a,b"], "run_dir: give one folder"),
        (["method.temperature=0.1,-1x"], "method.temperature"),
        (["method.temprature=0.1,0.2"], "Did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_run(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "quickstart", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def sweep(folder, *arguments):
    command = [sys.executable, "-m", "ssl_lib", "sweep", "quickstart", *SMALL, f"run_dir={folder}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_sweep_trains_compares_and_goes_on(tmp_path):
    broken = sweep(tmp_path, "seed=0,1", "schedule.epochs=3")
    while not list(tmp_path.glob("*/metrics.jsonl")):
        assert broken.poll() is None and not time.sleep(0.2)
    broken.send_signal(signal.SIGINT)
    _, error = broken.communicate(timeout=300)
    assert broken.returncode == 130 and "the same command goes on with it" in error
    (first,) = tmp_path.iterdir()
    assert first.name == "seed=0"

    whole = sweep(tmp_path, "seed=0,1", "schedule.epochs=3")
    table, error = whole.communicate(timeout=600)
    assert whole.returncode == 0, error
    assert f"{first} and 1 other seed" in table
    results = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/evaluation.json")}
    assert results.keys() == {"seed=0", "seed=1"}
    assert all(result["steps"] == 3 * 46 for result in results.values())


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others(tmp_path):
    both = sweep(tmp_path, "trainer.batch_size=100,7000")
    table, error = both.communicate(timeout=300)
    assert both.returncode == 2 and "1 of 2 runs failed" in error
    assert "trainer.batch_size=100" in table and "trainer.batch_size=7000" not in table
