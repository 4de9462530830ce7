"""What a run is: the files in its folder, and how to tell one. Free of torch."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from ssl_lib.errors import ConfigError

__all__ = [
    *("BEST", "CHECKPOINTS", "CONFIG_FILE", "DIAGNOSIS_FILE", "ENVIRONMENT_FILE", "EPOCH", "EVALUATION_FILE", "LAST"),
    *("METRICS_FILE", "NONFINITE_FILE", "NONFINITE_STATE", "STEP", "delete_run", "evaluation_file"),
    *("is_checkpoint_file", "is_run_folder", "list_checkpoints", "no_run", "numbered_checkpoints", "run_around"),
    *("run_folder", "runs_in"),
]

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.json"
DIAGNOSIS_FILE = "diagnosis.json"
ENVIRONMENT_FILE = "environment.json"
NONFINITE_FILE = "nonfinite.json"
NONFINITE_STATE = "nonfinite.pt"
CHECKPOINTS = "checkpoints"
LAST, BEST = "last.pt", "best.pt"
STEP, EPOCH = "step_{:08d}.pt", "epoch_{:04d}.pt"

_ANY_OF = (CONFIG_FILE, METRICS_FILE, EVALUATION_FILE, CHECKPOINTS)
_NO_CHECKPOINTS = {".yaml", ".yml", ".json", ".jsonl", ".html", ".npz", ".parquet"}
_WRITTEN = (  # what checkpoints need, after them
    *(f"{CHECKPOINTS}/{name}" for name in (LAST, BEST, "step_*.pt", "epoch_*.pt", "*.pt.partial")),
    *(METRICS_FILE, "evaluation*.json", "nonfinite.*", DIAGNOSIS_FILE, ENVIRONMENT_FILE),
)


def is_run_folder(path: Path) -> bool:
    """Whether a folder holds anything of a run."""
    return any((path / name).exists() for name in _ANY_OF)


def is_checkpoint_file(path: Path) -> bool:
    """Whether it may be one, by its name."""
    return path.is_file() and path.suffix not in _NO_CHECKPOINTS


def run_folder(run: str | Path) -> Path:
    """The folder of RUN, which is a run's folder or one checkpoint file, in a run's folder or anywhere.

    Raises:
        ConfigError: It is neither.
    """
    path = Path(run)
    if is_checkpoint_file(path):
        return path.parent.parent if path.parent.name == CHECKPOINTS else path.parent
    if path.is_dir() and is_run_folder(path):
        return path
    raise ConfigError(no_run(run))


def no_run(run: str | Path) -> str:
    """Why it is none, as errors tell it."""
    what = f"holds none of {', '.join(_ANY_OF)}" if Path(run).is_dir() else "is no folder, and no checkpoint file"
    return f"no run at {run}: it {what}"


def run_around(path: Path) -> Path | None:
    """The run that a file, or its folder of checkpoints, lies in."""
    above = path.parents[:2] if path.exists() else ()
    return next((folder for folder in above if (folder / METRICS_FILE).exists()), None)


def runs_in(folder: Path) -> list[Path]:
    """The runs side by side in a folder."""
    return sorted({path.parent for name in (METRICS_FILE, CHECKPOINTS) for path in folder.glob(f"*/{name}")})


def evaluation_file(run: str | Path) -> Path:
    """Where the evaluation of RUN goes; that of a checkpoint but the last is `evaluation_epoch_0010.json`."""
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
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a run under way may delete one meanwhile
            found = path.stat()
            files.setdefault((found.st_dev, found.st_ino), path)
    return list(files.values())


def delete_run(folder: Path) -> None:
    """Removes what an earlier run wrote, and nothing else."""
    for path in [path for pattern in _WRITTEN for path in folder.glob(pattern)]:
        path.unlink(missing_ok=True)
