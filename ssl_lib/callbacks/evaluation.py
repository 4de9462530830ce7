"""Scores the encoder while it trains."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from ssl_lib import distributed
from ssl_lib.callbacks.base import Callback
from ssl_lib.evaluation import Evaluator, format_table
from ssl_lib.sharding import whole
from ssl_lib.state import TrainState

__all__ = ["Evaluation", "write_results"]


class Evaluation(Callback):
    """Evaluates every few epochs and after the last; the last epoch's result is the run's.

    The random generators of the training are left as they were.

    Args:
        evaluator: What to measure, and on which images.
        every_epochs: Epochs between evaluations.
        path: Where the last result goes, such as `evaluation.json`; None writes none.
    """

    every_rank = True  # each extracts its share of the features

    def __init__(self, evaluator: Evaluator, every_epochs: int, path: Path | None = None) -> None:
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}")
        self.evaluator = evaluator
        self.every_epochs = every_epochs
        self.path = path

    def on_start(self, state: TrainState) -> None:
        """Makes up for an evaluation that a run broke off in."""
        if state.step and state.epoch_ended and self.path is not None and _steps_of(self.path) != state.step:
            self.on_epoch(state)

    def on_epoch(self, state: TrainState) -> None:
        """Evaluates where the epoch is due; prints the table after the last."""
        if not state.finished and round(state.epochs_done) % self.every_epochs:
            return
        device, encoder = state.precision.device, state.method.encoder
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), whole(state.model, encoder):
            results = self.evaluator(encoder)
        if distributed.rank() > 0:
            return
        state.log(results["trained"])
        if self.path is not None:
            write_results(self.path, self.evaluator, results, state.step)
        if state.finished:
            print(f"\n{format_table(results, self.evaluator.protocols)}\n", flush=True)


def _steps_of(path: Path) -> int:
    """The updates after which the results in a file were measured; 0 where there is none that can be read."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError):
        return 0


def write_results(path: Path, evaluator: Evaluator, results: dict[str, dict[str, float]], steps: int) -> None:
    """Writes accuracies as JSON, with the settings and images they were measured by and the updates trained."""
    settings: dict[str, Any] = {
        protocol.key: dataclasses.asdict(protocol)  # type: ignore[call-overload]
        for protocol in evaluator.protocols
    }
    skipped = [len(getattr(data, "skipped", ())) for data in (evaluator.bank, evaluator.queries)]
    images = {
        "bank": len(evaluator.bank) - skipped[0],
        "queries": len(evaluator.queries) - skipped[1],
        "skipped": sum(skipped),
        "size": evaluator.size,
    }
    content = {"steps": steps, "results": results, "protocols": settings, "images": images}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
