"""Several runs side by side: what they reached, what it cost, and in which settings they differ."""

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
from ssl_lib.runs.metrics import read_metrics
from ssl_lib.utils.yaml import flat, parse_yaml
from ssl_lib.runs.results import mean_and_spread, read_results
from ssl_lib.runs.files import CONFIG_FILE, EVALUATION_FILE, METRICS_FILE
from ssl_lib.utils.tables import text_table

__all__ = ["Comparison", "RunSummary", "compare", "summarize"]

_OWN = ("run_dir", "seed")  # what runs of one group may differ in


@dataclass(frozen=True)
class RunSummary:
    """What a run's folder says about it.

    Attributes:
        path: The folder.
        settings: Its resolved config, flat: `method.temperature`. Empty for a run of a script.
        figures: Numbers by heading: the evaluation's own figures of the trained encoder (shares in percent), the last
            line's loss and rank, the median of images/s, peak memory in GB, and minutes of training.
    """

    path: Path
    settings: Mapping[str, Any]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class _Group:
    """Runs that differ in nothing but their seeds."""

    runs: list[RunSummary] = field(default_factory=list)

    @property
    def name(self) -> str:
        more = len(self.runs) - 1
        kind = "seed" if len({run.settings.get("seed") for run in self.runs}) > more else "run"
        return str(self.runs[0].path) + (f" and {more} other {kind}{'s' if more > 1 else ''}" if more else "")

    def values(self, heading: str) -> list[float]:
        """One of each run that has it."""
        return [run.figures[heading] for run in self.runs if heading in run.figures]


@dataclass(frozen=True)
class Comparison:
    """Runs, grouped where they differ in nothing but their seeds.

    Attributes:
        headings: Of the columns.
        groups: Of the rows, in the order given.
        differences: By key, its value in each group, None where it has no such setting; those that are the same in all
            are left out.
    """

    headings: Sequence[str]
    groups: Sequence[_Group]
    differences: Mapping[str, Sequence[Any]]

    def table(self, width: int | None = None) -> str:
        """Mean and standard deviation over the seeds, a row per group; below it the settings that differ.

        Of settings that some groups lack, such as another method's, those on which the others agree are only counted.

        Args:
            width: Of a line at most, as `text_table` takes it.
        """
        numbers = [f"{number})" for number, _ in enumerate(self.groups, 1)]
        rows = [["", "run", *self.headings]]
        for number, group in zip(numbers, self.groups, strict=True):
            rows.append([number, group.name, *(_cell(group.values(heading)) for heading in self.headings)])
        known = {key: [_brief(s[key]) if key in s else "-" for s in self._settings] for key in self.differences}
        shown = {key: cells for key, cells in known.items() if len({*cells} - {"-"}) > 1}
        parts = [text_table(rows, left=2, width=width)]
        if shown:
            settings = [["settings that differ", *numbers], *([key, *shown[key]] for key in shown)]
            parts.append(text_table(settings, width=width))
        if own := [key for key in known if key not in shown]:
            more = f"{len(own)} settings that only some of them have, such as {own[0]}; -o FILE.csv lists all"
            parts.append(f"and {more}" if shown else more)
        return "\n\n".join(parts)

    @property
    def _settings(self) -> list[Mapping[str, Any]]:
        return [group.runs[0].settings for group in self.groups]

    def csv(self) -> str:
        """A line per run, with its own figures, its seed, and the settings in which any two differ."""
        keys = [*self.differences, "seed"]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", *keys, *self.headings])
        for run in (run for group in self.groups for run in group.runs):
            settings = ["" if run.settings.get(key) is None else _brief(run.settings[key]) for key in keys]
            writer.writerow([run.path, *settings, *(run.figures.get(heading, "") for heading in self.headings)])
        return out.getvalue()


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Reads runs' folders and groups them; one that is given twice counts once.

    Raises:
        CheckpointError: A folder does not hold a run, or one of its files is damaged.
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
        CheckpointError: The folder does not hold a run, or one of the files is damaged.
    """
    folder = Path(folder)
    config, metrics, evaluation = (folder / name for name in (CONFIG_FILE, METRICS_FILE, EVALUATION_FILE))
    if not metrics.is_file():
        what = "is a file" if folder.is_file() else "has no metrics.jsonl" if folder.is_dir() else "does not exist"
        raise CheckpointError(f"{folder} {what}: give the folder of a run, such as runs/quickstart")
    settings = flat(parse_yaml(config.read_text(encoding="utf-8"), str(config))) if config.is_file() else {}
    try:
        figures = {**_results(evaluation), **_training(read_metrics(metrics), settings.get("trainer.batch_size"))}
    except (DataError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: a file of the run is damaged: {error}") from error
    return RunSummary(folder, settings, figures)


def _results(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    _, results = read_results(path)
    trained = results.main("trained")
    return {
        f"{measure.title}{', %' if measure.percent else ''}": trained[measure.key] * (100 if measure.percent else 1)
        for measure in results.measures
        if measure.key in trained
    }


def _training(lines: Sequence[Mapping[str, float]], batch_size: int | None) -> dict[str, float]:
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
    text = str(value) if isinstance(value, str) else json.dumps(value)  # null, true and lists as YAML has them
    return text if len(text) <= 40 else f"{text[:37]}..."
