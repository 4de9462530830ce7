"""Top of the page: the verdict, an accuracy chart, and next steps as commands to copy."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ssl_lib.doctor import Doctor
from ssl_lib.evaluation import Results
from ssl_lib.report.records import Evaluation, Missing, Observed, Run
from ssl_lib.report.verdict import Verdict, best_of, judge, main_measures
from ssl_lib.runs.files import EVALUATION_FILE, NONFINITE_FILE, list_checkpoints
from ssl_lib.utils.yaml import flat

__all__ = ["next_steps", "overview"]

Step: TypeAlias = tuple[str, str]
"""A suggestion and its command, empty if there is none."""

_FEW_PROTOCOLS = 3


def overview(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the verdict, the recipes, the accuracies as dots on a line, and the next steps."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    if len(runs) > 1:
        verdict = best_of(known) or Verdict(f"{len(runs)} runs side by side", "", "none")
    else:
        verdict = judge(known[0][1]) if known else _progress(runs[0])
    recipes = {run.name: _recipe(run) for run in runs}
    dots = _dots({name: evaluation.results for name, evaluation in known})
    return {"verdict": verdict, "recipes": recipes, "chart": dots, "steps": next_steps(runs)}


def _progress(run: Run) -> Verdict:
    """Returns the verdict of a run without evaluation: its progress and the doctor's first finding."""
    progress = f"{text}." if (text := _interrupted(run)) else ""
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        return Verdict(f"Problem found: {run.diagnosis.findings[0].name}", progress, "bad")
    if progress:
        return Verdict("Training is incomplete and not yet evaluated", progress, "none")
    started = _steps_done(run) is not None
    return Verdict("Trained but not yet evaluated" if started else "Training has just started", "", "none")


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
    """Suggests the most urgent step: fix, resume, evaluate, then use or improve; for several runs, compare."""
    if len(runs) > 1:
        folders = " ".join(_quoted(run.folder) for run in runs)
        return [("Compare accuracy, cost and settings, averaged over seeds", f"ssl-lib compare {folders}")]
    run = runs[0]
    if isinstance(run.config, Missing):
        return [("Evaluate it in its training script (see docs/parts.md); the commands need a config.yaml.", "")]
    return _fixes(run) or _unfinished(run) or _evaluated(run, run.config)


def _fixes(run: Run) -> list[Step]:
    """Suggests debugging after a NaN or infinity, and a training run with the fix of the doctor's first finding."""
    folder, steps = _quoted(run.folder), list[Step]()
    if (run.folder / NONFINITE_FILE).exists():
        again = "--resume" if list_checkpoints(run.folder) else "--overwrite"
        command = f"ssl-lib train {folder} {again} trainer.debug_nonfinite=true"
        steps.append(("Find the module in which NaN or infinity arises", command))
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        finding = run.diagnosis.findings[0]
        if key := re.search(r"\b(?:optimizer|method)\.\w+", finding.cure):
            new = _quoted(run.folder.with_name(f"{run.folder.name}-fixed"))
            steps.append(("Train again with the fix", f"ssl-lib train {folder} {key[0]}=VALUE run_dir={new}"))
        if "views" in finding.cure:
            steps.append(("See how much of the images the views keep", f"ssl-lib views {folder}"))
    return steps


def _unfinished(run: Run) -> list[Step]:
    """Suggests to resume an interrupted run, and to evaluate weights that were not evaluated."""
    folder = _quoted(run.folder)
    if progress := _interrupted(run):
        return [(f"{progress}; resume if training has stopped", f"ssl-lib train {folder} --resume")]
    if isinstance(run.evaluation, Missing):
        unlabeled = isinstance(run.observed, Observed) and run.observed.sample.labels is None
        other = f" --data LABELED_IMAGES --output {_quoted(run.folder / EVALUATION_FILE)}" if unlabeled else ""
        return [("Evaluate the trained weights", f"ssl-lib evaluate {folder}{other}")]
    more = (_steps_done(run) or 0) - run.evaluation.steps
    return [(f"Evaluate again: {more:,} more steps were trained", f"ssl-lib evaluate {folder}")] if more > 0 else []


def _evaluated(run: Run, config: Mapping[str, Any]) -> list[Step]:
    """Suggests uses of a good backbone or longer training otherwise, and more protocols if few were evaluated."""
    assert isinstance(run.evaluation, Evaluation)
    folder, epochs = _quoted(run.folder), flat(config).get("schedule.epochs")
    if judge(run.evaluation).news == "good":
        steps = [
            ("Find neighbors, duplicates or a diverse subset of your images", f"ssl-lib embed {folder} IMAGES"),
            ("Export the backbone to other libraries", f"ssl-lib export {folder} --to safetensors"),
        ]
    else:
        changes = f"schedule.epochs={f'{2 * epochs:g}' if isinstance(epochs, int | float) else 'EPOCHS'}"
        new = _quoted(run.folder.with_name(f"{run.folder.name}-longer"))
        steps = [
            ("Train longer, in a new run", f"ssl-lib train {folder} {changes} run_dir={new}"),
            ("See how much of the images the views keep", f"ssl-lib views {folder}"),
        ]
    if sum(measure.main for measure in run.evaluation.results.measures) < _FEW_PROTOCOLS:
        steps.append(("Evaluate with more protocols", f"ssl-lib evaluate {folder} logistic retrieval spectrum"))
    return steps


def _steps_done(run: Run) -> int | None:
    """Returns the training steps of the observed weights, or of metrics.jsonl if no weights were observed."""
    return run.observed.steps if isinstance(run.observed, Observed) else _logged(run)


def _interrupted(run: Run) -> str:
    """Returns the progress of a run whose metrics.jsonl ends before the planned steps, else an empty text."""
    done, total = _logged(run), run.diagnosis.history.facts.total_steps if isinstance(run.diagnosis, Doctor) else None
    return f"{done:,} of {total:,} steps completed" if done is not None and total is not None and done < total else ""


def _logged(run: Run) -> int | None:
    return None if isinstance(run.metrics, Missing) else max(line["step"] for line in run.metrics) + 1


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
