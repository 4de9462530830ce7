"""Names of the files in a run's folder, and how to find a run; imports no torch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from ssl_lib.errors import ConfigError, closest

__all__ = [
    "BEST",
    "CHECKPOINTS",
    "CONFIG_FILE",
    "DIAGNOSIS_FILE",
    "ENVIRONMENT_FILE",
    "EPOCH",
    "EVALUATION_FILE",
    "LAST",
    "LOCK_FILE",
    "LOCK_HOLDER",
    "METRICS_FILE",
    "NONFINITE_FILE",
    "STEP",
    "delete_run",
    "evaluation_file",
    "list_checkpoints",
    "numbered_checkpoints",
    "run_folder",
    "suggested_run",
]

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.json"
DIAGNOSIS_FILE = "diagnosis.json"
ENVIRONMENT_FILE = "environment.json"
NONFINITE_FILE = "nonfinite.json"
LOCK_FILE, LOCK_HOLDER = ".lock", ".lock.json"
CHECKPOINTS = "checkpoints"
LAST, BEST = "last.pt", "best.pt"
STEP, EPOCH = "step_{:08d}.pt", "epoch_{:04d}.pt"

_ANY_OF = (CONFIG_FILE, METRICS_FILE, EVALUATION_FILE, CHECKPOINTS)
_NO_CHECKPOINTS = {".yaml", ".yml", ".json", ".jsonl", ".html", ".npz", ".parquet"}
_WRITTEN = (  # checkpoints first: without them, a half-deleted run is not resumed
    *(f"{CHECKPOINTS}/{name}" for name in (LAST, BEST, "step_*.pt", "epoch_*.pt", "*.pt.partial")),
    *(METRICS_FILE, "evaluation*.json", "nonfinite.*", DIAGNOSIS_FILE, ENVIRONMENT_FILE),
)


def run_folder(run: str | Path) -> Path:
    """The folder of RUN: a run's folder, or one checkpoint file in a run's folder or elsewhere.

    Raises:
        ConfigError: RUN is neither.
    """
    path = Path(run)
    if path.is_file() and path.suffix not in _NO_CHECKPOINTS:
        return path.parent.parent if path.parent.name == CHECKPOINTS else path.parent
    if any((path / name).exists() for name in _ANY_OF):
        return path
    what = f"holds none of {', '.join(_ANY_OF)}" if path.is_dir() else "is neither a folder nor a checkpoint file"
    raise ConfigError(f"no run at {run}: it {what}{suggested_run(run)}")


def suggested_run(run: str | Path) -> str:
    """Returns the end of an error message: `; did you mean runs/quickstart?`, if there is a run of a similar path.

    The run is looked for next to `run` and in `runs`.
    """
    near = closest(str(run), _runs_in({Path(run).parent, Path("runs")}) - {str(run)})
    return f"; did you mean {near}?" if near else ""


def _runs_in(folders: Iterable[Path]) -> set[str]:
    return {str(found.parent) for folder in folders for name in _ANY_OF for found in folder.glob(f"*/{name}")}


def evaluation_file(run: str | Path) -> Path:
    """The evaluation file of RUN; `evaluation_epoch_0010.json` for a checkpoint other than the last."""
    path = Path(run)
    last = path.is_dir() or path.stem == "last"
    return run_folder(path) / (EVALUATION_FILE if last else f"evaluation_{path.stem}.json")


def numbered_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The files `step_*.pt` with their steps, newest first."""
    found = ((re.fullmatch(r"step_(\d+)\.pt", path.name), path) for path in folder.glob("step_*.pt"))
    return sorted(((int(name[1]), path) for name, path in found if name), reverse=True)


def list_checkpoints(run: str | Path) -> list[Path]:
    """The checkpoints of a run's folder, each file once: `last.pt`, then the others, newest first."""
    folder = Path(run) / CHECKPOINTS
    epochs = sorted(folder.glob("epoch_*.pt"), reverse=True)
    paths = [folder / LAST, *(path for _, path in numbered_checkpoints(folder)), *epochs]
    files: dict[tuple[int, int], Path] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the run may delete one at any time
            found = path.stat()
            files.setdefault((found.st_dev, found.st_ino), path)
    return list(files.values())


def delete_run(folder: Path, keep: str | None = None) -> None:
    """Deletes the files that an earlier run wrote, except for the file named `keep`, and nothing else."""
    for path in [path for pattern in _WRITTEN for path in folder.glob(pattern) if path.name != keep]:
        path.unlink(missing_ok=True)
