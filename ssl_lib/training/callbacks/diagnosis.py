"""Measures label-free metrics during training, such as collapse of the embeddings, and warns about problems."""

from __future__ import annotations

import dataclasses
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
    """Adds label-free metrics to every logged line, and prints a warning if they indicate a problem.

    docs/diagnosis.md explains the metrics and findings. Each finding is printed once and written to `diagnosis.json`,
    together with the facts that `ssl-lib doctor RUN` needs to judge the lines later. The training is not affected.

    Args:
        folder: The run's folder, which holds the `metrics.jsonl` of a resumed run; None reads and writes nothing.
    """

    every_rank = True  # the metrics cover the images of all processes

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._doctor: Doctor | None = None

    @property
    def doctor(self) -> Doctor | None:
        """The doctor with all logged lines; None before the first one, and except in the first process."""
        return self._doctor if rank() == 0 else None

    @property
    def findings(self) -> list[Finding]:
        """Findings so far; empty except in the first process."""
        return [] if self._doctor is None else self._doctor.findings

    def on_start(self, state: TrainState) -> None:
        """Restores the diagnosis of a resumed run; a new run removes the findings of an earlier one."""
        self._metrics: dict[str, float] = {}
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
            except DataError as error:  # not a reason to stop the run
                tqdm.write(f"note: {error}; the diagnosis starts over at step {state.step}", file=sys.stderr)
        if self._doctor is not None and self._doctor.history.facts.total_steps != state.total_steps:  # made longer
            history = self._doctor.history
            history.facts = dataclasses.replace(history.facts, total_steps=state.total_steps)
            self._write()

    @torch.no_grad()
    def on_backward(self, state: TrainState, output: StepOutput) -> None:
        """Measures gradients and embeddings, and copies the weights before the update."""
        weights = state.parameters
        norm = total_norm([weight.grad for weight in weights if weight.grad is not None]).item()
        self._metrics = {}
        if math.isfinite(norm):  # else fp16 skips the update
            self._metrics = {"gradient_norm": norm, **measure_output(output)}
            self._before = [local(weight).detach().clone() for weight in weights]
        if self._doctor is None:
            self._doctor = Doctor(_facts(state, output, self._weight_rms))
            self._write()

    def measure(self, state: TrainState) -> Mapping[str, float]:
        """Returns the metrics of the last update."""
        metrics, self._metrics = self._metrics, {}
        if metrics:
            metrics["update_ratio"] = relative_distance(state.parameters, self._before)
            self._before = []
            metrics["weight_rms"] = _weight_rms(state)
            if pairs := state.method.ema_pairs():
                teacher = [weight for part, _ in pairs for weight in part.parameters()]
                student = [weight for _, parts in pairs for part in parts for weight in part.parameters()]
                metrics["teacher_momentum"] = state.method.ema_momentum(state.last_progress.settled)
                metrics["teacher_distance"] = relative_distance(teacher, student)
        return metrics

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Judges the line and prints new findings."""
        if self._doctor is None or rank() > 0:  # None if all updates so far were skipped
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
