"""Top of the page: the verdict, an accuracy chart, and next steps as commands to copy."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_lib.doctor import Doctor
from ssl_lib.evaluation import Metric, Results
from ssl_lib.report.records import Evaluation, Missing, Observed, Run, values_of
from ssl_lib.report.sections.settings import part_name
from ssl_lib.report.verdict import Verdict, best_of, judge
from ssl_lib.runs.files import EVALUATION_FILE, NONFINITE_FILE, list_checkpoints

__all__ = ["next_steps", "overview"]

_FEW_PROTOCOLS = 3


def overview(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the verdict, the recipes, the accuracies as dots on a line, and the next steps."""
    recipes = {run.name: _recipe(run) for run in runs}
    return {"verdict": _headline(runs), "recipes": recipes, "chart": _dots(runs), "steps": next_steps(runs)}


def _headline(runs: Sequence[Run]) -> Verdict:
    """Returns the verdict: one run compared with its baselines, or the best of several runs."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    if len(runs) == 1:
        return judge(known[0][1]) if known else _progress(runs[0])
    return best_of(known) or Verdict(f"{len(runs)} runs side by side", "", "none")


def _progress(run: Run) -> Verdict:
    """Returns the verdict of a run without evaluation: its progress and the doctor's first finding."""
    done, total = _steps_done(run), _total(run)
    unfinished = done is not None and total is not None and done < total
    progress = f"{done:,} of {total:,} steps completed." if unfinished else ""
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        return Verdict(f"Problem found: {run.diagnosis.findings[0].name}", progress, "bad")
    if done is None:
        return Verdict("Training has just started", "", "none")
    if unfinished:
        return Verdict("Training is incomplete and not yet evaluated", progress, "none")
    return Verdict("Trained but not yet evaluated", "", "none")


def _recipe(run: Run) -> str:
    """Describes a run: `simclr with resnet_tiny on fashion_mnist_mini, 10 epochs planned, 460 steps trained`."""
    steps = _steps_done(run)
    trained = f"{steps:,} steps trained" if steps is not None else ""
    if isinstance(run.config, Missing):
        return trained or "a run without a config"
    method, backbone, data = (part_name(run.config.get(key)) or "unknown" for key in ("method", "backbone", "data"))
    epochs = _epochs(run.config)
    texts = [f"{method} with {backbone} on {data}", f"{epochs} epochs planned" if epochs else "", trained]
    return ", ".join(text for text in texts if text)


def _dots(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the accuracies of all protocols on one scale, which spans the scores in steps of ten percent."""
    known = [(run.name, run.evaluation.results) for run in runs if isinstance(run.evaluation, Evaluation)]
    charts = [{"name": name, "results": of.values, "lines": _accuracies(of)} for name, of in known]
    fractions = [f for _, of in known for dots in _accuracies(of).values() for f in dots.values()]
    if not fractions:
        return {}
    high = max(1, math.ceil(round(10 * max(fractions), 6)))
    low = min(high - 1, math.floor(round(10 * min(fractions), 6)))
    rows = dict.fromkeys(row for _, of in known for row in of.values)
    return {"rows": [*rows], "low": low / 10, "high": high / 10, "runs": charts}


def _accuracies(results: Results) -> dict[Metric, dict[str, float]]:
    """Returns the valid values of each accuracy by row."""
    return {
        m: {row: scores[m.key] for row, scores in results.values.items() if 0 <= scores.get(m.key, math.nan) <= 1}
        for m in results.measures
        if m.main and m.percent
    }


@dataclass(frozen=True)
class Step:
    """A suggestion and its command, empty if there is none."""

    reason: str
    command: str = ""


def next_steps(runs: Sequence[Run]) -> list[Step]:
    """Suggests the most urgent step: fix, resume, evaluate, then use or improve; for several runs, compare."""
    if len(runs) > 1:
        folders = " ".join(_quoted(run.folder) for run in runs)
        return [Step("Compare accuracy, cost and settings, averaged over seeds", f"ssl-lib compare {folders}")]
    run = runs[0]
    if isinstance(run.config, Missing):
        return [Step("Evaluate it in its training script (see docs/parts.md); the commands need a config.yaml.")]
    return _fixes(run) or _unfinished(run) or _evaluated(run, run.config)


def _fixes(run: Run) -> list[Step]:
    """Suggests debugging after a NaN or infinity, and a training run with the fix of the doctor's first finding."""
    folder, steps = _quoted(run.folder), list[Step]()
    if (run.folder / NONFINITE_FILE).exists():
        again = "--resume" if list_checkpoints(run.folder) else "--overwrite"
        command = f"ssl-lib train {folder} {again} trainer.debug_nonfinite=true"
        steps.append(Step("Find the module in which NaN or infinity arises", command))
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        finding = run.diagnosis.findings[0]
        if key := re.search(r"\b(?:optimizer|method)\.\w+", finding.cure):
            new = _quoted(run.folder.with_name(f"{run.folder.name}-fixed"))
            steps.append(Step("Train again with the fix", f"ssl-lib train {folder} {key[0]}=VALUE run_dir={new}"))
        if "views" in finding.cure:
            steps.append(Step("See how much of the images the views keep", f"ssl-lib views {folder}"))
    return steps


def _unfinished(run: Run) -> list[Step]:
    """Suggests to resume an interrupted run, and to evaluate weights that were not evaluated."""
    folder, done, total = _quoted(run.folder), _logged(run), _total(run)
    if done is not None and total is not None and done < total:
        reason = f"{done:,} of {total:,} steps completed; resume if training has stopped"
        return [Step(reason, f"ssl-lib train {folder} --resume")]
    if isinstance(run.evaluation, Missing):
        unlabeled = isinstance(run.observed, Observed) and run.observed.sample.labels is None
        other = f" --data LABELED_IMAGES --output {_quoted(run.folder / EVALUATION_FILE)}" if unlabeled else ""
        return [Step("Evaluate the trained weights", f"ssl-lib evaluate {folder}{other}")]
    now, then = _steps_done(run), run.evaluation.steps
    if now is not None and then is not None and then < now:
        return [Step(f"Evaluate again: {now - then:,} more steps were trained", f"ssl-lib evaluate {folder}")]
    return []


def _evaluated(run: Run, config: Mapping[str, Any]) -> list[Step]:
    """Suggests uses of a good backbone or longer training otherwise, and more protocols if few were evaluated."""
    assert isinstance(run.evaluation, Evaluation)
    folder, epochs = _quoted(run.folder), _epochs(config)
    if judge(run.evaluation).news == "good":
        steps = [
            Step("Find neighbors, duplicates or a diverse subset of your images", f"ssl-lib embed {folder} IMAGES"),
            Step("Export the backbone to other libraries", f"ssl-lib export {folder} --to safetensors"),
        ]
    else:
        changes = f"schedule.epochs={f'{2 * epochs:g}' if isinstance(epochs, int | float) else 'EPOCHS'}"
        new = _quoted(run.folder.with_name(f"{run.folder.name}-longer"))
        steps = [
            Step("Train longer, in a new run", f"ssl-lib train {folder} {changes} run_dir={new}"),
            Step("See how much of the images the views keep", f"ssl-lib views {folder}"),
        ]
    if sum(measure.main for measure in run.evaluation.results.measures) < _FEW_PROTOCOLS:
        steps.append(Step("Evaluate with more protocols", f"ssl-lib evaluate {folder} logistic retrieval spectrum"))
    return steps


def _steps_done(run: Run) -> int | None:
    """Returns the training steps of the observed weights, or of metrics.jsonl if no weights were observed."""
    return run.observed.steps if isinstance(run.observed, Observed) else _logged(run)


def _logged(run: Run) -> int | None:
    steps = [] if isinstance(run.metrics, Missing) else values_of(run.metrics, "step")[1]
    return int(max(steps)) + 1 if steps else None


def _total(run: Run) -> int | None:
    return run.diagnosis.history.facts.total_steps if isinstance(run.diagnosis, Doctor) else None


def _epochs(config: Mapping[str, Any]) -> object:
    schedule = config.get("schedule")
    return schedule.get("epochs") if isinstance(schedule, Mapping) else None


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
