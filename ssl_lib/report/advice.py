"""What to do next with a run, as commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lib.doctor import Doctor
from ssl_lib.report.curves import values_of
from ssl_lib.report.run import Evaluation, Missing, Observed, Run
from ssl_lib.report.verdict import judge
from ssl_lib.runs.files import EVALUATION_FILE, NONFINITE_FILE

__all__ = ["Step", "next_steps", "steps_done", "steps_planned"]

_FEW_PROTOCOLS = 3


@dataclass(frozen=True)
class Step:
    """A reason, and the command for it; without one where there is none."""

    reason: str
    command: str = ""


def next_steps(runs: Sequence[Run]) -> list[Step]:
    """What is most to the point: cure, go on, evaluate, then use or improve; of several runs, compare."""
    if len(runs) > 1:
        folders = " ".join(_quoted(run.folder) for run in runs)
        return [Step("Accuracies, cost and settings in one table, seeds averaged", f"ssl-lib compare {folders}")]
    run = runs[0]
    if isinstance(run.config, Missing):
        return [Step("Judge it in its script, see docs/parts.md: commands build a network from config.yaml.")]
    return _cures(run) or _unfinished(run) or _unmeasured(run) or _measured(run)


def steps_done(run: Run) -> int | None:
    """Updates of the weights looked at, or where there are none, those that metrics.jsonl tells of."""
    return run.observed.steps if isinstance(run.observed, Observed) else _logged(run)


def steps_planned(run: Run) -> int | None:
    """Updates of the whole run, where its diagnosis tells."""
    return run.diagnosis.history.facts.total_steps if isinstance(run.diagnosis, Doctor) else None


def _logged(run: Run) -> int | None:
    steps = [] if isinstance(run.metrics, Missing) else values_of(run.metrics, "step")[1]
    return int(max(steps)) + 1 if steps else None


def _cures(run: Run) -> list[Step]:
    """What repeats a broken step, and for what the doctor found first a training with its cure."""
    folder, steps = _quoted(run.folder), list[Step]()
    if (run.folder / NONFINITE_FILE).exists():
        steps.append(Step("See where NaN arose", f"ssl-lib replay {folder}"))
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        found = run.diagnosis.findings[0]
        if key := re.search(r"\b(?:optimizer|method)\.\w+", found.cure):
            new = _quoted(run.folder.with_name(f"{run.folder.name}-cured"))
            steps.append(Step("Train anew, cured", f"ssl-lib train {folder} {key[0]}=VALUE run_dir={new}"))
        if "views" in found.cure:
            steps.append(Step("See what the views leave of the images", f"ssl-lib views {folder}"))
    return steps


def _unfinished(run: Run) -> list[Step]:
    done, total = _logged(run), steps_planned(run)
    if done is None or total is None or done >= total:
        return []
    reason = f"{done:,} of {total:,} steps are done; go on, if it no longer runs"
    return [Step(reason, f"ssl-lib train {_quoted(run.folder)} --resume")]


def _unmeasured(run: Run) -> list[Step]:
    folder = _quoted(run.folder)
    if isinstance(run.evaluation, Missing):
        unlabeled = isinstance(run.observed, Observed) and run.observed.sample.labels is None
        other = f" --data LABELED_IMAGES --output {_quoted(run.folder / EVALUATION_FILE)}" if unlabeled else ""
        return [Step("Measure what it learned", f"ssl-lib evaluate {folder}{other}")]
    now, then = steps_done(run), run.evaluation.steps
    if now is not None and then is not None and then < now:
        return [Step(f"Measure anew: {now - then:,} steps were trained since", f"ssl-lib evaluate {folder}")]
    return []


def _measured(run: Run) -> list[Step]:
    """More protocols where there are few; then a use for what has learned, or a longer training."""
    assert isinstance(run.evaluation, Evaluation) and isinstance(run.config, Mapping)
    folder = _quoted(run.folder)
    if judge(run.evaluation).news == "good":
        steps = [
            Step("Find neighbors, duplicates and a diverse subset of your images", f"ssl-lib embed {folder} IMAGES"),
            Step("Take the backbone elsewhere", f"ssl-lib export {folder} --to safetensors"),
        ]
    else:
        schedule = run.config.get("schedule")
        epochs = schedule.get("epochs") if isinstance(schedule, Mapping) else None
        twice = f"{2 * epochs:g}" if isinstance(epochs, int | float) else "EPOCHS"
        new = _quoted(run.folder.with_name(f"{run.folder.name}-longer"))
        steps = [
            Step("Train for longer, anew", f"ssl-lib train {folder} schedule.epochs={twice} run_dir={new}"),
            Step("See what the views leave of the images", f"ssl-lib views {folder}"),
        ]
    if sum(measure.main for measure in run.evaluation.results.measures) < _FEW_PROTOCOLS:
        steps.append(Step("Measure more", f"ssl-lib evaluate {folder} logistic retrieval spectrum"))
    return steps


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
