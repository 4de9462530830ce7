"""Tests of the command line as a whole: messages and exit codes, and closed pipes. Every command has its own file."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lib.cli.main import main
from tests.cli.conftest import error_of
from tests.fork_server import ended, fork

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method.temprature=1"], "Did you mean 'method.temperature'"),
        (["trainer.batch_size=7000", "run_dir=/nowhere/x"], "7000 is larger than the data set"),
        (["--resume", "run_dir=/nowhere/x"], "there is no run to resume at /nowhere/x. To resume a run, "),
        (["trainer.device=cuda:99"], "there is no device 'cuda:99': torch finds "),
        (["trainer.batch_size=33", "trainer.accumulate=2"], "the nearest valid sizes are 32 and 34"),
        (["trainer.batch_size=1", "trainer.accumulate=2"], "the nearest valid size is 2"),
        (
            ["method.name=byol"],
            "momentum, raft; 'projector_layers' is an argument of dcl, rpc, simclr",
        ),
        (["schedule.epochs=1"], "shorten the warmup with the run"),
        (["trainer.batch_size=1"], "see trainer.batch_size"),
        (["views.size=1000000"], "allocate"),
        (["batch_size=64"], "Did you mean 'trainer.batch_size'"),
        (["epochs=1"], "Did you mean 'schedule.epochs'"),
        (["optimizer.momentum=0.9"], "'momentum' is an argument of lars, sgd"),
    ],
)
def test_user_errors_are_one_line_and_exit_with_2(arguments, message, capsys):
    error = error_of(capsys, "train", "quickstart", *arguments)
    assert message in error
    assert error.startswith("ssl-lib: error: ") and len(error.strip().splitlines()) == 1


def test_unusable_output_is_refused_before_the_work(evaluated_run, tmp_path, capsys):
    assert main(["evaluate", str(evaluated_run), "--output", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "is a folder; give a file" in captured.err and not captured.out
    for command, option in (("evaluate", "--output"), ("report", "-o"), ("compare", "-o")):
        assert main([command, str(evaluated_run), option, f"{evaluated_run}/config.yaml/file"]) == 2
        captured = capsys.readouterr()
        assert "file cannot be written (Not a directory): name another" in captured.err and not captured.out


def test_command_ends_without_a_message_if_the_pipe_is_closed(tmp_path):
    """As in `ssl-lib list | head -1`; the pipe is smaller than the output."""
    out, err = tmp_path / "out", tmp_path / "err"
    os.mkfifo(out)
    process = fork(main, ["list"], out=out, err=err)
    with open(out, "rb", buffering=0) as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        assert pipe.readline() == b"methods:\n"
    assert ended(process) == 141 and not err.read_text()


@pytest.mark.parametrize(
    ("words", "redirection", "code", "lines"),
    [
        ("nope", "2>&-", 2, 0),
        ("nope", "2>/dev/full", 2, 0),
        ("nope", ">&- 2>&-", 2, 0),
        ("nope", "2>&1 >/dev/null | true", 2, 0),
        ("list configs", "2>&-", 0, 10),
        ("list configs", ">&-", 0, 0),
        ("list configs", "| head -1", 0, 1),
    ],
)
def test_streams_that_cannot_be_written_change_no_exit_code(words, redirection, code, lines):
    """An error is not printed into the results instead."""
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m ssl_lib {words} {redirection}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (code, 141 if "head" in redirection else code) and done.stderr == ""
    assert min(len(done.stdout.splitlines()), 10) == lines


def test_names_of_files_are_printed_as_they_are(capsys):
    error = error_of(capsys, "doctor", os.fsdecode(b"runs/\xc3\x84 \xe7\x8c\xab's \xff\x1b[31m"))
    assert r"runs/Ä 猫's \xff\x1b[31m has no metrics.jsonl" in error


def test_package_runs_as_a_module():
    command = [sys.executable, "-m", "ssl_lib", "train", "nope"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ssl-lib train: error: argument CONFIG: no config or run 'nope'" in done.stderr


def test_single_process_commands_are_refused_under_a_launcher(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "only train and evaluate run in several processes" in error_of(capsys, "list")
