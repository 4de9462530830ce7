"""Top of the page: the verdict, an accuracy chart, and next steps as commands to copy."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ssl_lib.doctor import Doctor, RunStatus, Step, format_outside
from ssl_lib.doctor import next_steps as steps_of
from ssl_lib.report.records import Missing, Observed, Run
from ssl_lib.runs.results import Evaluation, Results
from ssl_lib.runs.verdict import Verdict, best_of, judge, main_measures
from ssl_lib.utils.yaml import flat

__all__ = ["next_steps", "overview"]

Content = TypeVar("Content")


def overview(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the verdict, the recipes, the accuracies as dots on a line, and the next steps."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    if len(runs) > 1:
        verdict = best_of(known) or Verdict(f"{len(runs)} runs side by side", "", "none")
    else:
        verdict = judge(known[0][1]) if known else _progress(runs[0])
    recipes = {run.name: _recipe(run) for run in runs}
    dots = _dots({name: evaluation.results for name, evaluation in known})
    marked = {run.name: text for run in runs if (text := _out_of_range(run))}
    return {"verdict": verdict, "recipes": recipes, "marked": marked, "chart": dots, "steps": next_steps(runs)}


def _progress(run: Run) -> Verdict:
    """Returns the verdict of a run without evaluation: its progress and the doctor's first finding."""
    progress = f"{text}." if (text := _status(run).interrupted) else ""
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        return Verdict(f"Problem found: {run.diagnosis.findings[0].name}", progress, "bad")
    if progress:
        return Verdict("Training is incomplete and not yet evaluated", progress, "none")
    started = _steps_done(run) is not None
    return Verdict("Trained but not yet evaluated" if started else "Training has just started", "", "none")


def _out_of_range(run: Run) -> str:
    """Names the metrics that are out of their healthy range at the end of the run's log."""
    return format_outside(run.diagnosis) if isinstance(run.diagnosis, Doctor) and run.diagnosis.outside else ""


def _recipe(run: Run) -> str:
    """Describes a run: `simclr with resnet_tiny on fashion_mnist_mini, 10 epochs planned, 460 steps trained`."""
    steps, texts = _steps_done(run), []
    if not isinstance(run.config, Missing):
        values = flat(run.config)
        method, backbone, data = (values.get(f"{part}.name", "unknown") for part in ("method", "backbone", "data"))
        texts = [f"{method} with {backbone} on {data}"]
        texts += [f"{values['schedule.epochs']} epochs planned"] if "schedule.epochs" in values else []
    texts += [] if steps is None else [f"{steps:,} steps trained"]
    return ", ".join(texts) or "a run without a config"


def _dots(known: Mapping[str, Results]) -> dict[str, Any]:
    """Returns the accuracies of all protocols on one scale, which spans the scores in steps of ten percent."""
    charts: list[dict[str, Any]] = []
    for name, results in known.items():
        scores = results.values.items()
        lines = {m: {r: s[m.key] for r, s in scores if 0 <= s.get(m.key, -1) <= 1} for m in main_measures(results)}
        charts.append({"name": name, "results": results.values, "lines": lines})
    fractions = [value for chart in charts for dots in chart["lines"].values() for value in dots.values()]
    if not fractions:
        return {}
    high = max(1, math.ceil(round(10 * max(fractions), 6)))
    low = min(high - 1, math.floor(round(10 * min(fractions), 6)))
    rows = dict.fromkeys(row for results in known.values() for row in results.values)
    return {"rows": [*rows], "low": low / 10, "high": high / 10, "runs": charts}


def next_steps(runs: Sequence[Run]) -> list[Step]:
    """Suggests the most urgent step of a run; for several runs, compares them."""
    if len(runs) > 1:
        folders = " ".join(shlex.quote(str(run.folder)) for run in runs)
        return [("Compare accuracy, cost and settings, averaged over seeds", f"ssl-lib compare {folders}")]
    return steps_of(_status(runs[0]))


def _status(run: Run) -> RunStatus:
    evaluable = None if isinstance(run.environment, Missing) else run.environment.get("evaluable")
    return RunStatus(
        folder=run.folder,
        config=_known(run.config),
        evaluation=_known(run.evaluation),
        diagnosis=_known(run.diagnosis),
        steps=_logged(run),
        evaluable=evaluable if isinstance(evaluable, bool) else None,
    )


def _known(part: Content | Missing) -> Content | None:
    return None if isinstance(part, Missing) else part


def _steps_done(run: Run) -> int | None:
    """Returns the training steps of the observed weights, or of metrics.jsonl if no weights were observed."""
    return run.observed.steps if isinstance(run.observed, Observed) else _logged(run)


def _logged(run: Run) -> int | None:
    return None if isinstance(run.metrics, Missing) else max(line["step"] for line in run.metrics) + 1
