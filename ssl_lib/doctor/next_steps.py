"""What to do next with a run: its verdict in a line, and commands that work for this run; imports no torch."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ssl_lib.doctor.doctor import Doctor
from ssl_lib.runs.files import EVALUATION_FILE, NONFINITE_FILE, list_checkpoints
from ssl_lib.runs.folder import RunFolder
from ssl_lib.runs.results import Evaluation
from ssl_lib.runs.verdict import judge
from ssl_lib.utils.yaml import flat

__all__ = ["LABELED_FOLDER", "RunStatus", "Step", "format_steps", "next_steps"]

Step: TypeAlias = tuple[str, str]
"""A suggestion and its command, empty if there is none."""

LABELED_FOLDER = "a folder with `train` and `val` (or `test`) inside, each with a folder per class"
"""How the folder of `evaluate --data` must look."""

_FEW_PROTOCOLS = 3


@dataclass(frozen=True)
class RunStatus:
    """What is known about a run.

    Attributes:
        folder: Its folder.
        config: Its resolved config as plain values; None for a script's run.
        evaluation: The newest evaluation, if there is one.
        diagnosis: The doctor's findings; None without a diagnosis.
        steps: Number of logged updates; None if nothing was logged.
        evaluable: Whether its data have labeled training and test images; None if that is not known.
    """

    folder: Path
    config: Mapping[str, Any] | None
    evaluation: Evaluation | None
    diagnosis: Doctor | None
    steps: int | None
    evaluable: bool | None

    @classmethod
    def read(cls, folder: str | Path, diagnosis: Doctor | None = None) -> RunStatus:
        """Reads the files of a run's folder.

        Raises:
            DataError: A file is damaged.
        """
        run = RunFolder(Path(folder))
        lines, evaluation = run.metrics(), run.evaluation()
        return cls(
            folder=run.path,
            config=run.config(),
            evaluation=Evaluation.of(*evaluation) if evaluation else None,
            diagnosis=diagnosis,
            steps=max(line["step"] for line in lines) + 1 if lines else None,
            evaluable=(run.environment() or {}).get("evaluable"),
        )

    @property
    def quoted(self) -> str:
        """The folder, for a shell."""
        return shlex.quote(str(self.folder))

    @property
    def interrupted(self) -> str:
        """The progress of a run whose log ends before the planned steps, else an empty text."""
        total = self.diagnosis.history.facts.total_steps if self.diagnosis else None
        if self.steps is None or total is None or self.steps >= total:
            return ""
        return f"{self.steps:,} of {total:,} steps completed"

    @property
    def verdict(self) -> str:
        """A line that compares the trained weights with the baselines."""
        if self.evaluation is not None:
            return judge(self.evaluation).line()
        why = ": the data have no labeled training and test images" if self.evaluable is False else ""
        return f"The trained weights are not evaluated{why}."


def next_steps(run: RunStatus) -> list[Step]:
    """Suggests the most urgent step: fix, resume, evaluate, then use or improve."""
    if run.config is None:
        return [("Evaluate it in its training script (see docs/parts.md); the commands need a config.yaml.", "")]
    return _fixes(run) or _unfinished(run) or _evaluated(run, run.config)


def format_steps(steps: Sequence[Step]) -> str:
    """Formats the commands as aligned lines, with what they do as comments."""
    width = max((len(command) for _, command in steps), default=0)
    return "\n".join(f"  {command:<{width}}  # {about}" if command else f"  {about}" for about, command in steps)


def _fixes(run: RunStatus) -> list[Step]:
    """Suggests debugging after a NaN or infinity, and a training run with the fix of the doctor's first finding."""
    steps = list[Step]()
    if (run.folder / NONFINITE_FILE).exists():
        again = "--resume" if list_checkpoints(run.folder) else "--overwrite"
        command = f"ssl-lib train {run.quoted} {again} trainer.debug_nonfinite=true"
        steps.append(("Find the module in which NaN or infinity arises", command))
    if run.diagnosis and run.diagnosis.findings:
        finding = run.diagnosis.findings[0]
        if key := re.search(r"\b(?:optimizer|method)\.\w+", finding.cure):
            command = f"ssl-lib train {run.quoted} {key[0]}=VALUE run_dir={_sibling(run, 'fixed')}"
            steps.append(("Train again with the fix", command))
        if "views" in finding.cure:
            steps.append(("See how much of the images the views keep", f"ssl-lib views {run.quoted}"))
    return steps


def _unfinished(run: RunStatus) -> list[Step]:
    """Suggests to resume an interrupted run, and to evaluate weights that were not evaluated."""
    if run.interrupted:
        return [(f"{run.interrupted}; resume if training has stopped", f"ssl-lib train {run.quoted} --resume")]
    if run.evaluation is None:
        return [*([] if run.evaluable else _without_labels(run)), *_evaluate(run, "Evaluate the trained weights")]
    more = (run.steps or 0) - run.evaluation.steps
    return _evaluate(run, f"Evaluate again, after {more:,} more steps of training") if more > 0 else []


def _without_labels(run: RunStatus) -> list[Step]:
    table = shlex.quote(str(run.folder / "embeddings.npz"))
    return [
        ("Compute the embeddings of the training images", f"ssl-lib embed {run.quoted} -o {table}"),
        ("Then find the images most similar to the first one", f"ssl-lib nearest {table} 0"),
    ]


def _evaluate(run: RunStatus, about: str) -> list[Step]:
    if run.evaluable:
        return [(about, f"ssl-lib evaluate {run.quoted}")]
    target = shlex.quote(str(run.folder / EVALUATION_FILE))
    command = f"ssl-lib evaluate {run.quoted} --data LABELED_IMAGES --output {target}"
    return [(f"{about} on labeled images", command), (f"LABELED_IMAGES is {LABELED_FOLDER}.", "")]


def _evaluated(run: RunStatus, config: Mapping[str, Any]) -> list[Step]:
    """Suggests uses of a good backbone or longer training otherwise, and more protocols if few were evaluated."""
    assert run.evaluation is not None
    if judge(run.evaluation).news == "good":
        to = "safetensors" if importlib.util.find_spec("safetensors") else "torch_export"
        steps = [
            ("Find neighbors, duplicates or a diverse subset of your images", f"ssl-lib embed {run.quoted} IMAGES"),
            ("Export the backbone to other libraries", f"ssl-lib export {run.quoted} --to {to}"),
        ]
    else:
        epochs = flat(config).get("schedule.epochs")
        changes = f"schedule.epochs={f'{2 * epochs:g}' if isinstance(epochs, int | float) else 'EPOCHS'}"
        steps = [
            ("Train longer, in a new run", f"ssl-lib train {run.quoted} {changes} run_dir={_sibling(run, 'longer')}"),
            ("See how much of the images the views keep", f"ssl-lib views {run.quoted}"),
        ]
    if run.evaluable and sum(measure.main for measure in run.evaluation.results.measures) < _FEW_PROTOCOLS:
        more = f"ssl-lib evaluate {run.quoted} logistic retrieval spectrum"
        steps.append(("Evaluate with more protocols", more))
    return steps


def _sibling(run: RunStatus, suffix: str) -> str:
    """A new folder next to the run's, for a shell."""
    return shlex.quote(str(run.folder.with_name(f"{run.folder.name}-{suffix}")))
