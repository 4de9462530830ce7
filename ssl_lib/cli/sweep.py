"""`ssl-lib sweep`: trains a config with every combination of some values, one run after the other."""

from __future__ import annotations

import argparse
import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ssl_lib.cli.common import counted
from ssl_lib.cli.named_config import load_named
from ssl_lib.config.resolve import resolve
from ssl_lib.distributed.signals import STOP_SIGNALS
from ssl_lib.errors import ConfigError, SSLError
from ssl_lib.experiment.build import check_trainer
from ssl_lib.runs.compare import compare
from ssl_lib.runs.files import list_checkpoints
from ssl_lib.utils.tables import terminal_width

__all__ = ["run_sweep"]


def run_sweep(options: argparse.Namespace) -> int:
    """Runs `ssl-lib sweep`, and returns its exit code."""
    keys, choices = zip(*map(_choices, options.overrides), strict=True)
    fixed = [f"{key}={values[0]}" for key, values in zip(keys, choices, strict=True) if len(values) == 1]
    varied = {key: values for key, values in zip(keys, choices, strict=True) if len(values) > 1}
    if not varied:
        raise ConfigError("give more than one value to a key, such as seed=0,1,2; a single run is `ssl-lib train`")
    if "run_dir" in varied:
        raise ConfigError("run_dir: give one folder; every run gets its own folder inside it")
    points = [
        [f"{key}={value}" for key, value in zip(varied, point, strict=True)]
        for point in itertools.product(*varied.values())
    ]
    config = load_named(options.config, fixed)
    base = Path(config.run_dir if "run_dir" in keys else f"{config.run_dir}_sweep")
    folders = [base / _folder_name(point) for point in points]
    if len(set(folders)) < len(folders) or max(len(folder.name.encode()) for folder in folders) > 255:
        raise ConfigError(
            "two combinations would share a folder, or a folder's name would be too long: write configs for long "
            "values, and for values that differ only in special characters"
        )
    for point in points:  # wrong values are refused before the first run
        check_trainer(resolve(load_named(options.config, [*fixed, *point])))
    failed = []
    for number, (point, folder) in enumerate(zip(points, folders, strict=True), 1):
        print(f"\n== {number} of {counted(len(points), 'run')}: {' '.join(point)}", file=sys.stderr, flush=True)
        code, stopped = _train(options.config, [*fixed, *point], folder)
        if stopped or code - 128 in STOP_SIGNALS:
            print(f"\nthe sweep stopped in {folder}; the same command continues it", file=sys.stderr)
            return 128 + stopped if stopped else code
        failed += [folder] if code else []
    if whole := [folder for folder in folders if folder not in failed]:
        print(f"\n{compare(whole).table(terminal_width())}")
    if failed:
        names = ", ".join(map(str, failed))
        raise SSLError(f"{len(failed)} of {counted(len(points), 'run')} failed, see above: {names}")
    return 0


def _choices(override: str) -> tuple[str, list[str]]:
    """A key and its values, which commas outside of brackets and quotes separate."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"cannot read {override!r}: write key=value,value, such as seed=0,1,2")
    values, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            values.append("")
            continue
        values[-1] += letter
        if letter in "'\"":
            quote = "" if letter == quote else quote or letter
        elif not quote:
            depth += (letter in "[{") - (letter in "]}")
    values = [value.strip() for value in values]
    if len(values) > 1 and "" in values:
        raise ConfigError(f"{override}: a value between two commas is missing")
    if len(set(values)) < len(values):
        raise ConfigError(f"{override}: a value is given twice")
    return key, values


def _folder_name(point: Sequence[str]) -> str:
    return ",".join(re.sub(r"[^\w.=+-]+", "_", text) for text in point)


def _train(config: str, overrides: Sequence[str], folder: Path) -> tuple[int, int]:
    """Trains in a child process, so that the sweep survives its death; signals are forwarded to it.

    Returns:
        Its exit code, and the first signal that was forwarded, or 0.
    """
    received: list[int] = []
    again = ["--resume"] if list_checkpoints(folder) else []
    command = [sys.executable, "-m", "ssl_lib", "train", config, *overrides, f"run_dir={folder}", *again]
    child = subprocess.Popen(command, start_new_session=True)  # Ctrl-C reaches it once, forwarded from here

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        return child.wait(), (received or [0])[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
