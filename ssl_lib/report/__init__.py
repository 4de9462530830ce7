"""What a run learned, as one HTML file that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_lib.errors import ConfigError
from ssl_lib.report.observation import observe
from ssl_lib.report.page import render
from ssl_lib.report.projection import PROJECTIONS, choose_projection
from ssl_lib.report.records import read_config, read_diagnosis, read_environment, read_evaluation, read_metrics
from ssl_lib.report.run import Run
from ssl_lib.runs.files import evaluation_file, run_folder
from ssl_lib.utils.files import check_writable, write_text

__all__ = ["PROJECTIONS", "Run", "gather", "render", "write_report"]


def write_report(
    runs: Sequence[str | Path] | str | Path,
    path: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    projection: str | None = None,
    images: bool = True,
) -> Path:
    """Writes the report of a run, or of several side by side.

    Args:
        runs: Folders of runs, or checkpoint files.
        path: The HTML file; None is `report.html` in the folder of the one run.
        overrides: As for `load_run`, such as `data.root=...` for images that moved.
        projection: Of the map: `umap`, `tsne` or `pca`; None takes the first that is installed.
        images: Whether pictures may be shown.

    Returns:
        The file.

    Raises:
        ConfigError: There is no such run, several runs and no path, the file cannot be written, or the projection is
            not there.
    """
    runs = [runs] if isinstance(runs, str | Path) else list(runs)
    folders = [run_folder(run) for run in runs]
    if not folders:
        raise ConfigError("a report needs at least one run")
    if path is None and len(folders) > 1:
        raise ConfigError(
            f"a report of {len(folders)} runs is no single run's: name a file with -o, such as -o runs.html"
        )
    path = folders[0] / "report.html" if path is None else Path(path)
    check_writable(path, "report.html")
    projection = choose_projection(projection)
    names = _names(folders, runs)
    gathered = [
        gather(run, name=name, overrides=overrides, projection=projection)
        for run, name in zip(runs, names, strict=True)
    ]
    write_text(path, render(gathered, images=images))
    return path


def gather(run: str | Path, *, name: str, overrides: Sequence[str] = (), projection: str = "pca") -> Run:
    """All that is known of a run, under a name to tell it from others."""
    folder = run_folder(run)
    return Run(
        name=name,
        folder=folder,
        config=read_config(folder),
        metrics=read_metrics(folder),
        evaluation=read_evaluation(evaluation_file(run)),
        diagnosis=read_diagnosis(folder),
        environment=read_environment(folder),
        observed=observe(str(run), overrides, projection),
    )


def _names(folders: Sequence[Path], runs: Sequence[str | Path]) -> list[str]:
    """The folders' names, with as much of the path, and then a number, as it takes to tell them apart."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
