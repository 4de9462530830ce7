"""Tests of reading metrics.jsonl: an incomplete last line is dropped, and a damaged line is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib import DataError
from ssl_lib.cli.main import main
from ssl_lib.doctor import diagnose
from ssl_lib.report.records import read_metrics as read_report_metrics
from ssl_lib.runs.compare import compare
from ssl_lib.runs.metrics import as_line, read_metrics
from tests.training.helpers import write_run

LINES = [
    {"step": 0, "epoch": 0, "loss": 5.25, "images_per_second": 100.0},
    {"step": 1, "epoch": 0, "loss": 5.0, "images_per_second": 100.0},
]


def test_written_lines_read_back_with_seven_digits(tmp_path):
    path = tmp_path / "metrics.jsonl"
    numbers = {"loss": math.inf, "lr": 1.23456789e-5, "own": np.float32(0.25), "tensor": torch.tensor(3)}
    path.write_text("".join(map(as_line, [*LINES, {"step": 2, "epoch": 0, **numbers, "note": "ü"}])), encoding="utf-8")
    found = read_metrics(path)
    rounded = {"loss": math.inf, "lr": 1.234568e-5, "own": 0.25, "tensor": 3.0}
    assert found == [*LINES, {"step": 2, "epoch": 0, **rounded, "note": "ü"}]
    assert "".join(map(as_line, found)) == path.read_text(encoding="utf-8")


def test_every_reader_drops_an_incomplete_last_line(tmp_path):
    write_run(tmp_path, LINES, total_steps=10, steps_per_epoch=5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == LINES
    assert diagnose(tmp_path).history.all("loss") == [5.25, 5.0]
    assert compare([tmp_path]).groups[0].runs[0].figures["loss"] == 5.0
    assert read_report_metrics(tmp_path) == LINES


def test_lines_after_the_requested_count_are_not_parsed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(as_line, LINES)) + "\0\0\n")
    assert read_metrics(path, 2) == LINES
    with pytest.raises(DataError, match="line 3"):
        read_metrics(path)


@pytest.mark.parametrize("line", ['{"step": 1, "lo', "[1, 2]", "{}", "", "\x00\x00"])
def test_every_reader_names_a_damaged_line(line, tmp_path, capsys):
    write_run(tmp_path, LINES[:1], total_steps=10, steps_per_epoch=5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n{as_line(LINES[1])}")
    with pytest.raises(DataError, match=r"metrics\.jsonl is damaged in line 2: correct or delete that line"):
        diagnose(tmp_path)
    assert "metrics.jsonl is damaged in line 2" in read_report_metrics(tmp_path).reason
    for command in ("doctor", "compare"):
        assert main([command, str(tmp_path)]) == 2
        assert "metrics.jsonl is damaged in line 2: correct or delete that line" in capsys.readouterr().err
