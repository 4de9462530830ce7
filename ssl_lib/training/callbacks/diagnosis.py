"""Measures what a run learns while it learns it, and says when something is wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ssl_lib.distributed import local, rank, world_size
from ssl_lib.doctor import Doctor, Finding, RunFacts, diagnose, write_diagnosis
from ssl_lib.doctor.measures import ROWS, measure_output, relative_distance, total_norm
from ssl_lib.errors import DataError
from ssl_lib.runs.files import DIAGNOSIS_FILE, METRICS_FILE
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.state import TrainState
from ssl_lib.types import StepOutput

__all__ = ["Diagnosis"]


class Diagnosis(Callback):
    """Adds figures without labels to every line, and prints a warning where they say that a run goes wrong.

    docs/diagnosis.md explains figures and findings. Each finding is printed once; all are in `diagnosis.json`, whose
    facts let `ssl-lib doctor RUN` judge the lines afterwards. Nothing of it touches the training.

    Args:
        folder: The run's folder, with `metrics.jsonl` of a resumed run; None writes and reads nothing.
    """

    every_rank = True  # the figures are of the images of all

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._doctor: Doctor | None = None

    @property
    def findings(self) -> list[Finding]:
        """What was found so far, in the first process."""
        return [] if self._doctor is None else self._doctor.findings

    def on_start(self, state: TrainState) -> None:
        """Goes on where a resumed run was; removes the findings of an earlier run in the folder."""
        self._figures: dict[str, float] = {}
        self._before: list[Tensor] = []
        self._doctor = None
        self._weight_rms = None if state.step else _weight_rms(state)
        if self.folder is None or rank() > 0:
            return
        path = self.folder / DIAGNOSIS_FILE
        if not state.step:
            path.unlink(missing_ok=True)
        elif path.exists() and (self.folder / METRICS_FILE).exists():
            try:
                self._doctor = diagnose(self.folder)
            except DataError as error:  # no reason to keep a run from going on
                tqdm.write(f"note: {error}; the diagnosis begins anew at step {state.step}", file=sys.stderr)

    @torch.no_grad()
    def on_backward(self, state: TrainState, output: StepOutput) -> None:
        """Looks at gradients and embeddings, and notes the weights as they are before the update."""
        weights = state.parameters
        norm = total_norm([weight.grad for weight in weights if weight.grad is not None]).item()
        self._figures = {}
        if math.isfinite(norm):  # else fp16 skips the update
            self._figures = {"gradient_norm": norm, **measure_output(output)}
            self._before = [local(weight).detach().clone() for weight in weights]
        if self._doctor is None:
            self._doctor = Doctor(_facts(state, output, self._weight_rms))
            self._write()

    def measure(self, state: TrainState) -> Mapping[str, float]:
        """The figures of the last update."""
        figures, self._figures = self._figures, {}
        if figures:
            figures["update_ratio"] = relative_distance(state.parameters, self._before)
            self._before = []
            figures["weight_rms"] = _weight_rms(state)
            if pairs := state.method.ema_pairs():
                teacher = [weight for part, _ in pairs for weight in part.parameters()]
                student = [weight for _, parts in pairs for part in parts for weight in part.parameters()]
                figures["teacher_momentum"] = state.method.ema_momentum(state.last_progress)
                figures["teacher_distance"] = relative_distance(teacher, student)
        return figures

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Judges the line."""
        if self._doctor is None or rank() > 0:  # no update was made so far, all were skipped
            return
        found = self._doctor.see(metrics)
        for finding in found:
            tqdm.write(f"warning: {finding}", file=sys.stderr)
            sys.stderr.flush()
        if found:
            self._write()

    def _write(self) -> None:
        if self.folder is not None and self._doctor is not None and rank() == 0:
            write_diagnosis(self.folder / DIAGNOSIS_FILE, self._doctor)


def _weight_rms(state: TrainState) -> float:
    weights = state.parameters
    return float(total_norm(weights)) / math.sqrt(sum(weight.numel() for weight in weights))


def _facts(state: TrainState, output: StepOutput, weight_rms: float | None) -> RunFacts:
    embeddings, assignments = output.embeddings, output.assignments
    compared = None if embeddings is None else len(embeddings) * world_size()
    return RunFacts(
        total_steps=state.total_steps,
        steps_per_epoch=state.loader.steps_per_epoch,
        rows=None if compared is None else min(compared, ROWS),
        embedding_dim=None if embeddings is None else embeddings.shape[1],
        prototypes=None if assignments is None else assignments.shape[1],
        weight_rms=weight_rms,
        chance_loss=None if compared is None else state.method.chance_loss(compared),
    )
