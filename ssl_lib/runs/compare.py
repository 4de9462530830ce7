"""Compares runs: their results, their cost, and the settings in which they differ; imports no torch."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_lib.errors import CheckpointError, DataError
from ssl_lib.runs.files import suggested_run
from ssl_lib.runs.folder import RunFolder
from ssl_lib.runs.results import Results, mean_and_spread
from ssl_lib.utils.tables import text_table
from ssl_lib.utils.yaml import flat

__all__ = ["Comparison", "RunSummary", "compare", "summarize"]

_OWN = ("run_dir", "seed")  # settings in which runs of one group may differ


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        path: The folder.
        settings: The resolved config, flat: `method.temperature`. Empty for a script's run.
        figures: Numbers by heading: the main metrics of the trained encoder (fractions in percent), the last line's
            loss and rank, the median of images/s, peak memory in GB, and minutes of training.
    """

    path: Path
    settings: Mapping[str, Any]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class _Group:
    """Runs that differ only in their seeds."""

    runs: list[RunSummary] = field(default_factory=list)

    @property
    def name(self) -> str:
        more = len(self.runs) - 1
        kind = "seed" if len({run.settings.get("seed") for run in self.runs}) > more else "run"
        return str(self.runs[0].path) + (f" and {more} other {kind}{'s' if more > 1 else ''}" if more else "")

    def values(self, heading: str) -> list[float]:
        """The values of the runs that have one."""
        return [run.figures[heading] for run in self.runs if heading in run.figures]


@dataclass(frozen=True)
class Comparison:
    """Runs, in groups that differ only in their seeds.

    Attributes:
        headings: Headings of the columns.
        groups: One per row, in the given order.
        differences: Per setting that differs, its value in each group; None if a group has no such setting.
    """

    headings: Sequence[str]
    groups: Sequence[_Group]
    differences: Mapping[str, Sequence[Any]]

    def table(self, width: int | None = None) -> str:
        """A row per group with mean and standard deviation over the seeds; below it the settings that differ.

        Settings that some groups lack, such as another method's, are only counted if the other groups agree on them.

        Args:
            width: Largest line width; see `text_table`.
        """
        numbers = [f"{number})" for number, _ in enumerate(self.groups, 1)]
        rows = [["", "run", *self.headings]]
        for number, group in zip(numbers, self.groups, strict=True):
            rows.append([number, group.name, *(_cell(group.values(heading)) for heading in self.headings)])
        known = {key: [_brief(s[key]) if key in s else "-" for s in self._settings] for key in self.differences}
        listed = {key: cells for key, cells in known.items() if len({*cells} - {"-"}) > 1}
        parts = [text_table(rows, left=2, width=width)]
        if listed:
            settings = [["settings that differ", *numbers], *([key, *listed[key]] for key in listed)]
            parts.append(text_table(settings, width=width))
        if own := [key for key in known if key not in listed]:
            more = f"{len(own)} settings that only some runs have, such as {own[0]}; -o FILE.csv lists all"
            parts.append(f"and {more}" if listed else more)
        return "\n\n".join(parts)

    @property
    def _settings(self) -> list[Mapping[str, Any]]:
        return [group.runs[0].settings for group in self.groups]

    def csv(self) -> str:
        """A line per run with its metrics, its seed, and the settings that differ.

        Texts that a spreadsheet would take for a formula (=, +, -, @ first) begin with an apostrophe.
        """
        keys = [*self.differences, "seed"]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", *map(_csv_cell, [*keys, *self.headings])])
        for run in (run for group in self.groups for run in group.runs):
            settings = ["" if run.settings.get(key) is None else _csv_cell(run.settings[key]) for key in keys]
            numbers = (run.figures.get(heading, "") for heading in self.headings)
            writer.writerow([_csv_cell(str(run.path)), *settings, *numbers])
        return out.getvalue()


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Reads runs' folders and groups them; a folder that is given twice counts once.

    Raises:
        CheckpointError: A folder holds no run.
        DataError: A file of a run is damaged.
    """
    groups, given = dict[str, _Group](), dict[Path, str | Path]()
    for folder in folders:
        given.setdefault(Path(folder).resolve(), folder)
    for run in map(summarize, given.values()):
        shared = {key: value for key, value in run.settings.items() if key not in _OWN}
        groups.setdefault(repr(sorted(shared.items())) if shared else str(run.path), _Group()).runs.append(run)
    settings = [group.runs[0].settings for group in groups.values()]
    keys = dict.fromkeys(key for one in settings for key in one if key not in _OWN)
    columns = {key: [one.get(key) for one in settings] for key in keys}
    differing = {key: values for key, values in columns.items() if any(value != values[0] for value in values)}
    headings = dict.fromkeys(heading for group in groups.values() for run in group.runs for heading in run.figures)
    return Comparison(list(headings), list(groups.values()), differing)


def summarize(folder: str | Path) -> RunSummary:
    """Reads config.yaml, metrics.jsonl and evaluation.json of a run.

    Raises:
        CheckpointError: The folder holds no run.
        DataError: One of the files is damaged.
    """
    folder = Path(folder)
    run = RunFolder(folder)
    lines = run.metrics()
    if lines is None:
        what = "is a file" if folder.is_file() else "has no metrics.jsonl" if folder.is_dir() else "does not exist"
        near = suggested_run(folder)
        raise CheckpointError(f"{folder} {what}: give the folder of a run, such as runs/quickstart{near}")
    config, evaluation = run.config() or {}, run.evaluation()
    settings = flat({key: value for key, value in config.items() if key != "source"})  # it changes nothing
    try:
        scores = {} if evaluation is None else _scores(evaluation[1])
        measured = {**scores, **_training(lines, float(settings.get("trainer.batch_size") or 0))}
        figures = {heading: float(value) for heading, value in measured.items()}
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise DataError(
            f"{folder}: config.yaml, metrics.jsonl or evaluation.json is damaged: {error!r:.200}"
        ) from error
    return RunSummary(folder, settings, figures)


def _scores(results: Results) -> dict[str, float]:
    trained = results.main("trained")
    return {
        f"{measure.title}{', %' if measure.percent else ''}": trained[measure.key] * (100 if measure.percent else 1)
        for measure in results.measures
        if measure.key in trained
    }


def _training(lines: Sequence[Mapping[str, float]], batch_size: float) -> dict[str, float]:
    trained = [line for line in lines if "loss" in line]
    if not trained:
        return {}
    last = trained[-1]
    figures = {"loss": last["loss"]}
    if "effective_rank" in last:
        figures["effective rank"] = last["effective_rank"]
    figures["images/s"] = statistics.median(line["images_per_second"] for line in trained)
    if memory := [line["memory_gb"] for line in trained if "memory_gb" in line]:
        figures["memory, GB"] = max(memory)
    if batch_size:
        steps = [b["step"] - a["step"] for a, b in zip([{"step": -1}, *trained], trained, strict=False)]
        speeds = [line["images_per_second"] for line in trained]
        figures["minutes"] = sum(n * batch_size / speed for n, speed in zip(steps, speeds, strict=True)) / 60
    return figures


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    if not math.isfinite(mean):
        return "not finite"
    digits = 1 if abs(mean) >= 10 else 3
    return f"{mean:.{digits}f}" + ("" if spread is None else f" +- {spread:.{digits}f}")


def _brief(value: Any) -> str:
    text = str(value) if isinstance(value, str) else json.dumps(value)  # null, true and lists as in YAML
    return text if len(text) <= 40 else f"{text[:37]}..."


def _csv_cell(value: Any) -> str:
    text = _brief(value)
    formula = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return ("'" * formula + text).replace("\r", " ")  # the csv module does not quote \r
