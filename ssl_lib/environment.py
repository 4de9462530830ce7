"""Where a run was made, in words."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

import ssl_lib

__all__ = ["describe_environment"]


def describe_environment(device: torch.device) -> dict[str, str]:
    """Versions, the device, and the commit of the working directory where it is one of git's; no names of people.

    `-dirty` behind the commit says that files were changed since.
    """
    known = {
        "ssl_lib": ssl_lib.__version__,
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
