"""What a run records about itself when it starts: its config, and the environment it runs in."""

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
    """Writes a text, such as the run's resolved YAML, when the run starts or goes on.

    Args:
        path: Where to.
        text: What.
    """

    def __init__(self, path: str | Path, text: str) -> None:
        self.path, self.text = Path(path), text

    def on_start(self, state: TrainState) -> None:
        """Writes it, over that of the run's earlier part."""
        write_text(self.path, self.text)


class EnvironmentFile(Callback):
    """Writes `environment.json` as the training starts or goes on: versions, device and git commit.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, state: TrainState) -> None:
        """Writes it."""
        write_json(self.path, describe_environment(state.precision.device))


def describe_environment(device: torch.device) -> dict[str, str]:
    """Versions, the device, and the commit of the working directory where it is one of git's; no names of people.

    `-dirty` behind the commit says that files were changed since.
    """
    known = {
        "ssl_lib": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": _commit(Path.cwd()),
    }
    return {name: value for name, value in known.items() if value}


def _commit(folder: Path) -> str:
    asked = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *asked]  # a repository may name a program there
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
