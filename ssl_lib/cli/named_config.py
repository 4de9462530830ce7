"""Loads the config that a command names: a file, a bundled config, a run's config, or that for a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_lib.cli.common import FOLDER_CONFIG, find_config, parse_changes
from ssl_lib.config.load import load_config
from ssl_lib.config.run_config import RunConfig

__all__ = ["load_named"]


def load_named(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Loads a config.

    Args:
        name: What `find_config` finds. A folder of images is the `data.root`, and names the folder of the run.
        overrides: Changes as `key=value`.

    Raises:
        ConfigError: There is no such config, or it is wrong.
    """
    source, folder = find_config(name), Path(name)
    place = {}
    if source.name == FOLDER_CONFIG and folder.is_dir():
        place = {"data.root": name, "run_dir": f"runs/{folder.resolve().name}"}
    return load_config(source, {**place, **parse_changes(overrides)})
