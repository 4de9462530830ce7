"""Training section: charts of the logged metrics, and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from ssl_lib.doctor import FIGURES, Doctor, RunFacts
from ssl_lib.report.charts import Series, make_chart
from ssl_lib.report.formats import format_number, run_style
from ssl_lib.report.records import Missing, Run, Table, values_of

__all__ = ["training"]

_APART = {"step", "epoch"}
_GROUPS = {
    "Loss and learning rate": "loss lr",
    "Representation": "feature_std embedding_norm uniformity alignment view_distance process_gap",
    "Spectrum of the embeddings": "effective_rank variance_top1 variance_top4 variance_top16",
    "Teacher and prototypes": (
        "teacher_momentum teacher_distance prototype_usage prototype_entropy assignment_entropy"
    ),
    "Optimization": "gradient_norm update_ratio weight_rms skipped",
    "Other metrics": "",
    "Throughput": "images_per_second data_wait memory_gb",
}
"""The metrics of each group, in the order of the charts; other metrics, such as a method's own, have a group, too."""
_MEANINGS = {
    "loss": "training objective; the upper limit is the loss at chance level",
    "lr": "learning rate",
    "skipped": "updates skipped because of NaN or infinite values",
    "images_per_second": "training images per second",
    "data_wait": "fraction of the time spent waiting for data, 0 to 1",
    "memory_gb": "peak memory so far, of the GPU or the process",
}


def training(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns a small chart per metric with all runs, the metrics that were logged only once, and the throughput."""
    logs = [(run.name, run_style(n), run.metrics) for n, run in enumerate(runs) if not isinstance(run.metrics, Missing)]
    names = dict.fromkeys(name for _, _, lines in logs for line in lines for name in line if name not in _APART)
    curves = {name: [Series(title, *values_of(lines, name), style) for title, style, lines in logs] for name in names}
    curves = {name: [one for one in series if one.y] for name, series in curves.items()}
    drawn = {name: series for name, series in curves.items() if any(len(one.y) > 1 for one in series)}
    facts = runs[0].diagnosis.history.facts if len(runs) == 1 and isinstance(runs[0].diagnosis, Doctor) else None
    groups = {
        title: [make_chart(name, drawn[name], x_title="step", about=_meaning(name, facts)) for name in names]
        for title, names in _grouped([*drawn]).items()
    }
    once = [(name, one) for name in curves if name not in drawn for one in curves[name]]
    speeds = [(title, measured) for title, _, lines in logs if (measured := _speed(lines))]
    legend = [{"title": run.name, "style": run_style(number)} for number, run in enumerate(runs)]
    return {"legend": legend, "groups": groups, "once": once, "speeds": speeds}


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the names of each group that has any."""
    groups = {title: [name for name in group.split() if name in names] for title, group in _GROUPS.items()}
    known = {name for group in groups.values() for name in group}
    groups["Other metrics"] = [name for name in names if name not in known]
    return {title: group for title, group in groups.items() if group}


def _meaning(name: str, facts: RunFacts | None) -> str:
    """Describes a metric and its healthy range, if the doctor knows one."""
    figure = FIGURES.get(name)
    if figure is None:
        return _MEANINGS.get(name, "")
    healthy = None if facts is None else figure.healthy(facts)
    which = "" if figure.judged == "last" else f" of the {figure.judged} value"
    return _MEANINGS.get(name, figure.meaning) + (
        f"; healthy range{which}: {format_number(healthy[0])} to {format_number(healthy[1])}" if healthy else ""
    )


def _speed(metrics: Sequence[Table]) -> tuple[float, float, float] | None:
    """Returns median throughput, median data wait and longest data wait, or None if they were not logged."""
    rates, waits = values_of(metrics, "images_per_second")[1], values_of(metrics, "data_wait")[1]
    return (median(rates), median(waits), max(waits)) if rates and waits else None
