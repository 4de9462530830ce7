"""Writes a run's config and its environment (versions, device, git commit) when it starts."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.utils.files import write_json, write_text
from ssl_lib.version import __version__

__all__ = ["ConfigFile", "EnvironmentFile"]


class ConfigFile(Callback):
    """Writes the run's resolved config when the run starts or resumes.

    Args:
        path: The file.
        text: The config, as YAML.
    """

    def __init__(self, path: str | Path, text: str) -> None:
        self.path, self.config = Path(path), text

    def on_start(self, state: TrainState) -> None:
        """Writes the file; a resumed run overwrites it."""
        write_text(self.path, self.config)


class EnvironmentFile(Callback):
    """Writes `environment.json` when the run starts or resumes: versions, device and git commit.

    Args:
        path: The file.
        evaluable: Whether the data have the labeled images that an evaluation needs; None if that is not known. It is
            written, too, since `ssl-lib doctor`, which reads no images, suggests only commands that work.
    """

    def __init__(self, path: str | Path, evaluable: bool | None = None) -> None:
        self.path, self.evaluable = Path(path), evaluable

    def on_start(self, state: TrainState) -> None:
        """Writes the file."""
        known = {} if self.evaluable is None else {"evaluable": self.evaluable}
        write_json(self.path, {**describe_environment(state.precision.device), **known})


def describe_environment(device: torch.device) -> dict[str, str]:
    """Versions, the device, and the git commit of the working directory, if it has one; no personal data.

    The suffix `-dirty` of the commit means that files have changed since.
    """
    values = {
        "ssl_lib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": _commit(Path.cwd()),
    }
    return {name: value for name, value in values.items() if value}


def _commit(folder: Path) -> str:
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *describe]  # fsmonitor may run any program
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
