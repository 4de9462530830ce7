"""Tests of comparing runs by the files in their folders."""

from __future__ import annotations

import csv
import io
import json
import statistics

import pytest

from ssl_lib import CheckpointError
from ssl_lib.cli.main import main
from ssl_lib.runs.compare import compare, summarize


@pytest.fixture
def make_run(tmp_path):
    """Returns a function that writes a run's folder with two logged lines and an evaluation."""

    def make(name, seed, temperature, knn, speeds=(100.0, 200.0), config=True):
        folder = tmp_path / name
        folder.mkdir()
        if config:
            settings = {"seed": seed, "method": {"name": "simclr", "temperature": temperature}, "run_dir": str(folder)}
            (folder / "config.yaml").write_text(json.dumps({**settings, "trainer": {"batch_size": 60}}))
        lines = [{"step": 9, "epoch": 0, "loss": 5.0}, {"step": 39, "epoch": 0, "loss": 4.5}]
        lines = [{**line, "images_per_second": speed} for line, speed in zip(lines, speeds, strict=True)]
        (folder / "metrics.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 39, "epoch": 0, "knn": knn}])
        )
        measures = [
            {"key": "knn", "title": "kNN (k=20)", "percent": True, "main": True},
            {"key": "knn_10", "title": "kNN (k=10)", "percent": True, "main": False},
            {"key": "rank", "title": "rank", "percent": False, "main": True},
        ]
        results = {"trained": {"knn": knn, "knn_10": 0.1, "rank": 7.0}, "random init": {"knn": 0.2}}
        content = {"steps": 40, "measures": measures, "results": results, "details": {}}
        (folder / "evaluation.json").write_text(json.dumps(content))
        return folder

    return make


def test_summary_has_main_metrics_cost_and_settings(make_run):
    run = summarize(make_run("a", 0, 0.1, 0.75))
    minutes = (10 * 60 / 100 + 30 * 60 / 200) / 60  # 10 and 30 steps of 60 images
    expected = {"kNN (k=20), %": 75.0, "rank": 7.0, "loss": 4.5, "images/s": 150.0, "minutes": pytest.approx(minutes)}
    assert run.figures == expected
    assert run.settings["method.temperature"] == 0.1


def test_seeds_are_averaged_and_other_settings_are_separate_rows(make_run):
    scores = [0.70, 0.74, 0.76]
    folders = [make_run(f"s{seed}", seed, 0.1, score) for seed, score in enumerate(scores)]
    folders.append(make_run("warm", 0, 0.5, 0.60))
    comparison = compare([folders[0], folders[3], *folders[1:3]])
    assert [len(group.runs) for group in comparison.groups] == [3, 1]
    assert comparison.differences == {"method.temperature": [0.1, 0.5]}
    table = comparison.table()
    percent = [100 * score for score in scores]
    assert f"{statistics.fmean(percent):.1f} +- {statistics.stdev(percent):.1f}" in table
    assert f"{folders[0]} and 2 other seeds" in table
    rows = list(csv.DictReader(comparison.csv().splitlines()))
    assert [(row["seed"], row["method.temperature"], float(row["kNN (k=20), %"])) for row in rows] == [
        *((str(seed), "0.1", pytest.approx(score)) for seed, score in enumerate(percent)),
        ("0", "0.5", pytest.approx(60.0)),
    ]


def test_run_given_twice_counts_once(make_run, tmp_path, monkeypatch):
    folders = [make_run(f"s{seed}", seed, 0.1, 0.7) for seed in (0, 1)]
    monkeypatch.chdir(tmp_path)
    (group,) = compare([*folders, "s1", f"{tmp_path}/s0/../s0"]).groups
    assert [run.path for run in group.runs] == folders and group.name.endswith("s0 and 1 other seed")
    assert "+-" not in compare([folders[0], "s0"]).table()


def test_copy_of_a_run_is_not_counted_as_a_seed(make_run):
    folders = [make_run(name, seed, 0.1, 0.7) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert compare(folders).table().splitlines()[2].split("  ")[1].endswith("a and 2 other runs")


def test_loss_of_a_group_with_a_nan_is_not_finite(make_run):
    folders = [make_run(f"s{seed}", seed, 0.1, 0.7) for seed in (0, 1)]
    text = (folders[1] / "metrics.jsonl").read_text()
    (folders[1] / "metrics.jsonl").write_text(text.replace("4.5", "NaN"))
    assert "not finite" in compare(folders).table().splitlines()[2]


def test_settings_that_only_some_runs_have_are_counted_not_listed(make_run):
    folders = [make_run(name, 0, 0.1, 0.7) for name in "ab"]
    settings = json.loads((folders[1] / "config.yaml").read_text())
    settings |= {"method": {"name": "byol", "momentum": 0.99, "hidden_dim": 512}}
    (folders[1] / "config.yaml").write_text(json.dumps(settings))
    comparison = compare(folders)
    lines = comparison.table().splitlines()
    assert ["method.name", "simclr", "byol"] in [line.split() for line in lines]
    assert not any(line.startswith(("method.temperature", "method.momentum")) for line in lines)
    assert "3 settings that only some runs have, such as method.temperature" in lines[-1]
    assert {"method.temperature", "method.momentum"} <= set(next(csv.reader(comparison.csv().splitlines())))


def test_runs_without_a_config_are_not_grouped(make_run):
    scripts = [make_run(name, 0, 0.1, 0.5, config=False) for name in "ab"]
    (scripts[0] / "evaluation.json").unlink()
    comparison = compare(scripts)
    assert [len(group.runs) for group in comparison.groups] == [1, 1] and not comparison.differences
    assert "-" in comparison.table().splitlines()[2]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_csv_escapes_texts_that_a_spreadsheet_would_take_for_a_formula(text, make_run):
    folders = [make_run("a", 0, 0.1, 0.7), make_run("b", 0, text, 0.7)]
    rows = list(csv.DictReader(io.StringIO(compare(folders).csv(), newline="")))
    assert [row["method.temperature"] for row in rows] == ["0.1", f"'{text}".replace("\r", " ")]


def test_csv_keeps_negative_numbers_and_lists(make_run):
    folders = [make_run("a", 0, -0.5, -0.25), make_run("b", 0, [-1, 2], 0.7)]
    rows = list(csv.DictReader(compare(folders).csv().splitlines()))
    assert [row["method.temperature"] for row in rows] == ["-0.5", "[-1, 2]"]
    assert [float(row["kNN (k=20), %"]) for row in rows] == [-25.0, 70.0]


def test_csv_escapes_the_path_of_a_run(make_run, tmp_path, monkeypatch):
    make_run("=run", 0, 0.1, 0.7)
    monkeypatch.chdir(tmp_path)
    (row,) = csv.DictReader(compare(["=run"]).csv().splitlines())
    assert row["run"] == "'=run"


def test_folder_that_is_not_a_run_is_named(make_run, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="nowhere does not exist: give the folder of a run"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(CheckpointError, match=r"has no metrics\.jsonl"):
        compare([tmp_path])
    broken = make_run("broken", 0, 0.1, 0.5)
    (broken / "evaluation.json").write_text("{}")
    assert main(["compare", str(broken)]) == 2
    assert f"{broken}/evaluation.json is damaged or not an evaluation" in capsys.readouterr().err
