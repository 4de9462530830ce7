"""Runs in processes of their own that are killed, stopped or out of disk space end like uninterrupted runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.checkpoint_folder import find_checkpoint
from tests.fork_server import Command
from tests.training.reliability_helper import (
    arguments,
    assert_same_run,
    copy_without_newest_save,
    kill_repeatedly,
    logged_lines,
    start_or_resume,
    wait_for_a_save,
    with_workers,
    write_config,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("server") / "log.txt")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def uninterrupted(server, config, tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert server.run(arguments(config, folder)) == 0
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder of labeled image files, which workers decode."""
    for split in ("train", "test"):
        for index in range(32):
            path = tmp_path / "images" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), 7 * index).save(path)
    return tmp_path / "images"


def test_run_killed_three_times_equals_uninterrupted_run(server, config, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    kill_repeatedly(server, config, folder, 3)
    assert server.run(start_or_resume(config, folder)) == 0
    assert_same_run(folder, uninterrupted)


@pytest.mark.slow
def test_run_killed_twenty_times_equals_uninterrupted_run(server, config, tmp_path):
    """The uninterrupted run and the last resume run as `python -m ssl_lib train`; 25 epochs of 8 steps."""
    folders, longer = (tmp_path / "killed", tmp_path / "uninterrupted"), "schedule.epochs=25"
    kill_repeatedly(server, config, folders[0], 20, longer)
    for folder in folders:
        command = [sys.executable, "-m", "ssl_lib", *start_or_resume(config, folder, longer)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert_same_run(*folders)


@pytest.mark.slow
def test_save_killed_before_any_of_its_system_calls_leaves_intact_checkpoints(server, config, uninterrupted, tmp_path):
    """Repeats the end of the run, and kills it one system call later each time."""
    folder, calls = tmp_path / "run", 1
    before = min(load_checkpoint(path)["step"] for path in (uninterrupted / "checkpoints").glob("step_*.pt"))

    def repeat_end() -> int:
        command = start_or_resume(config, copy_without_newest_save(uninterrupted, folder))
        return server.run(command, kill_at=calls)

    while repeat_end() == -signal.SIGKILL:
        for path in (folder / "checkpoints").glob("*.pt"):
            assert load_checkpoint(path)["step"] > 0, "every name must refer to an intact checkpoint"
        assert load_checkpoint(find_checkpoint(folder))["step"] >= before
        assert server.run(start_or_resume(config, folder)) == 0
        assert_same_run(folder, uninterrupted)
        shutil.rmtree(folder)
        calls += 1
    assert calls > 20, "the audit hook must see the calls"
    assert_same_run(folder, uninterrupted)


def test_signal_stops_the_run_after_a_save_and_it_resumes_exactly(server, config, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        pid = server.start(start_or_resume(config, folder))
        wait_for_a_save(folder, pid)
        os.kill(pid, number)
        assert server.wait() == 128 + number
        last_line = server.log.read_text().splitlines()[-1]
        assert last_line.startswith("stopped and saved after") and last_line.endswith(
            f"ssl-lib train {folder} --resume"
        )
        assert f"after {load_checkpoint(folder / 'checkpoints' / 'last.pt')['step']} of 24 steps" in last_line
    assert server.run(["train", str(folder), "--resume"]) == 0
    assert_same_run(folder, uninterrupted)


def test_signal_to_the_process_group_spares_the_workers(server, images, tmp_path):
    """Terminals and schedulers send it so; the workers are needed to finish the update, and then end."""
    pid = server.start(with_workers(images, tmp_path / "run"))
    wait_for_a_save(tmp_path / "run", pid)
    os.killpg(pid, signal.SIGTERM)
    assert server.wait() == 143
    assert server.log.read_text().splitlines()[-1].startswith("stopped and saved after")
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_ctrl_c_after_the_save_ends_the_process_without_a_traceback(images, tmp_path):
    """Python would print tracebacks of the functions that clean up, such as those that end the workers."""
    command = [sys.executable, "-m", "ssl_lib", *with_workers(images, tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        wait_for_a_save(tmp_path / "run", process.pid)
        process.send_signal(signal.SIGINT)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("stopped and saved after"):
                break
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(1e-4)
        lines += process.stderr.readlines()
    assert process.returncode == 130 and lines[-1].startswith("stopped and saved after"), lines


def test_second_process_is_refused_and_a_killed_process_does_not_block_the_folder(server, images, tmp_path, capsys):
    """The first process is halted by SIGSTOP; its workers survive it, also halted, and hold no lock."""
    folder = tmp_path / "run"
    start = with_workers(images, folder)
    pid = server.start(start)
    wait_for_a_save(folder, pid)
    os.killpg(pid, signal.SIGSTOP)
    try:
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        for again in (start, [*start, "--overwrite"], ["train", str(folder), "--resume"]):
            assert main(again) == 2
            (error,) = capsys.readouterr().err.splitlines()
            assert (
                error.startswith(f"ssl-lib: error: process {pid} on ") and f"is training into {folder}: wait" in error
            )
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
        os.kill(pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        other = server.start(["train", str(folder), "--resume"])
        wait_for_a_save(folder, other)
        os.killpg(pid, 0)  # the workers still exist
        os.kill(other, signal.SIGTERM)
        assert server.wait() == 143
    finally:
        os.killpg(pid, signal.SIGKILL)


def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(server, config, uninterrupted, tmp_path):
    folder = copy_without_newest_save(uninterrupted, tmp_path / "run")
    before = (folder / "checkpoints" / "last.pt").read_bytes()
    assert server.run(start_or_resume(config, folder), largest_file=20_000) == 2
    error = server.log.read_text().splitlines()[-1]
    assert error.startswith("ssl-lib: error: cannot write the checkpoint") and "MB free" in error
    assert (folder / "checkpoints" / "last.pt").read_bytes() == before
    assert not list(folder.rglob("*.partial"))
    assert server.run(start_or_resume(config, folder)) == 0
    assert_same_run(folder, uninterrupted)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_run_resumes_from_the_previous_checkpoint_if_the_newest_is_damaged(
    damage, server, config, uninterrupted, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    checkpoints = folder / "checkpoints"
    newest, older = sorted(checkpoints.glob("step_*.pt"), reverse=True)
    for path in (checkpoints / "last.pt", newest):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
        if damage == "delete":
            path.unlink()
    assert server.run(["train", str(folder), "--resume"]) == 0
    if damage != "delete":
        (warning,) = [line for line in server.log.read_text().splitlines() if str(older) in line]
        assert warning.startswith(f"warning: cannot read the checkpoint {checkpoints / 'last.pt'}: it is damaged")
    assert_same_run(folder, uninterrupted)


def test_error_names_all_checkpoints_if_every_one_is_damaged(server, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    damaged = list((folder / "checkpoints").glob("[ls]*.pt"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:1000])
    assert server.run(["train", str(folder), "--resume"]) == 2
    error = server.log.read_text().splitlines()[-1]
    assert error.startswith(f"ssl-lib: error: no checkpoint of {folder} is intact")
    assert all(str(path) in error for path in damaged)


def test_best_checkpoint_is_of_the_best_evaluation(uninterrupted):
    evaluated = [line for line in logged_lines(uninterrupted) if "knn" in line]
    best = max(evaluated, key=lambda line: line["knn"])  # the first of equals
    assert load_checkpoint(uninterrupted / "checkpoints" / "best.pt")["step"] == best["step"] + 1
    assert json.loads((uninterrupted / "evaluation.json").read_text())["steps"] == evaluated[-1]["step"] + 1
