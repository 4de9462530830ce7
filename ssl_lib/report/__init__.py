"""Writes an HTML report of one or several runs: evaluation, training curves, embeddings, images and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lib.doctor import diagnose
from ssl_lib.errors import ConfigError
from ssl_lib.report.observation import observe
from ssl_lib.report.page import render
from ssl_lib.report.projection import PROJECTIONS, choose_projection
from ssl_lib.report.records import Run, read_evaluation, read_metrics, read_part
from ssl_lib.runs.files import evaluation_file, run_folder
from ssl_lib.runs.folder import RunFolder
from ssl_lib.utils.files import check_writable, write_text

__all__ = ["PROJECTIONS", "Run", "gather", "render", "write_report"]

_NO_CONFIG = "There is no config.yaml because the run was trained by a script. `ssl-lib train CONFIG` writes this file."
_NO_ENVIRONMENT = "There is no environment.json: the run was trained by a script or by an older version."


def write_report(
    runs: Sequence[str | Path] | str | Path,
    path: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    projection: str | None = None,
    images: bool = True,
) -> Path:
    """Writes the report of one run, or of several runs side by side.

    Args:
        runs: Run folders or checkpoint files.
        path: The HTML file. None is `report.html` in the run folder, for a single run.
        changes: See `load_run`; for example `{"data.root": "photos"}` if the images have moved.
        projection: Projection of the map: `umap`, `tsne` or `pca`. None uses the first one that is installed.
        images: Whether the report includes pictures.

    Returns:
        The path of the HTML file.

    Raises:
        ConfigError: A run does not exist, there are several runs and no path, the file cannot be written, or the
            projection is unknown or not installed.
    """
    runs = [runs] if isinstance(runs, str | Path) else list(runs)
    folders = [run_folder(run) for run in runs]
    if not folders:
        raise ConfigError("a report needs at least one run")
    if path is None and len(folders) > 1:
        raise ConfigError(f"a report of {len(runs)} runs needs an output file: add -o FILE, for example -o runs.html")
    path = folders[0] / "report.html" if path is None else Path(path)
    check_writable(path, "report.html")
    settings: dict[str, Any] = {"changes": changes, "projection": choose_projection(projection)}
    names = _names(folders, runs)
    gathered = [gather(run, name=name, **settings) for run, name in zip(runs, names, strict=True)]
    write_text(path, render(gathered, images=images))
    return path


def gather(run: str | Path, *, name: str, changes: Mapping[str, Any] | None = None, projection: str = "pca") -> Run:
    """Collects everything the report needs from a run, which it shows under `name`."""
    folder = run_folder(run)
    files = RunFolder(folder)
    return Run(
        name=name,
        folder=folder,
        config=read_part(files.config, _NO_CONFIG),
        metrics=read_metrics(folder),
        evaluation=read_evaluation(evaluation_file(run)),
        diagnosis=read_part(lambda: diagnose(folder), ""),
        environment=read_part(files.environment, _NO_ENVIRONMENT),
        observed=observe(run, changes or {}, projection),
    )


def _names(folders: Sequence[Path], runs: Sequence[str | Path]) -> list[str]:
    """Returns unique names: the folders' names, or if those repeat the paths, numbered if those repeat too."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
