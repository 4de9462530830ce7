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
from ssl_lib.files import write_text
from ssl_lib.sharding import whole
from ssl_lib.state import TrainState

__all__ = ["Evaluation", "write_results"]

Results = dict[str, dict[str, float]]


class Evaluation(Callback):
    """Evaluates every few epochs and after the last; the last epoch's result is the run's, not the best one's.

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
        """Makes up for an evaluation that came after the checkpoint; what it found may be in the file already.

        Where a run begins, the file of an earlier one is removed: its results could be taken for those of this run.
        """
        if not state.step and self.path is not None and distributed.rank() == 0:
            self.path.unlink(missing_ok=True)
        if state.step and state.epoch_ended:
            self._evaluate(state, distributed.gather_objects(self._found_before(state.step))[0])

    def on_epoch(self, state: TrainState) -> None:
        """Evaluates where the epoch is due, unless the run is to stop; prints the table after the last."""
        if not state.stopping:
            self._evaluate(state)

    def _evaluate(self, state: TrainState, results: Results | None = None) -> None:
        """Measures, unless the results are given, and tells of them."""
        due = state.finished or round(state.epochs_done) % self.every_epochs == 0
        if not due or state.step in state.evaluations:
            return
        if results is None:
            device, encoder = state.precision.device, state.method.encoder
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), whole(state.model, encoder):
                results = distributed.gather_objects(self.evaluator(encoder))[0]
            if self.path is not None and distributed.rank() == 0:
                write_results(self.path, self.evaluator, results, state.step)
        state.evaluations[state.step] = results["trained"]
        state.log(results["trained"])
        if state.finished and distributed.rank() == 0:
            print(f"\n{format_table(results, self.evaluator.protocols)}\n", flush=True)

    def _found_before(self, step: int) -> Results | None:
        """The results in the file, where they are of this step and of the same settings."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8")) if self.path else {}
            found = content["steps"], content["protocols"], content["images"]["size"]
            same = found == (step, _settings(self.evaluator), self.evaluator.size)
            results: Results | None = content["results"] if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return results


def write_results(path: Path, evaluator: Evaluator, results: Results, steps: int) -> None:
    """Writes accuracies as JSON, with the settings and images they were measured by and the updates trained."""
    skipped = [len(getattr(data, "skipped", ())) for data in (evaluator.bank, evaluator.queries)]
    images = {
        "bank": len(evaluator.bank) - skipped[0],
        "queries": len(evaluator.queries) - skipped[1],
        "skipped": sum(skipped),
        "size": evaluator.size,
    }
    content = {"steps": steps, "results": results, "protocols": _settings(evaluator), "images": images}
    write_text(path, json.dumps(content, indent=2) + "\n")


def _settings(evaluator: Evaluator) -> dict[str, Any]:
    return {
        protocol.key: dataclasses.asdict(protocol)  # type: ignore[call-overload]
        for protocol in evaluator.protocols
    }
