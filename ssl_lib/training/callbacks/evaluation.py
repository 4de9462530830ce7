"""Scores the encoder while it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ssl_lib.distributed import gather_objects, rank
from ssl_lib.errors import ConfigError
from ssl_lib.evaluation import Evaluator, Results, protocol_name, read_results, write_results
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.fsdp import is_sharded, whole
from ssl_lib.training.state import TrainState

__all__ = ["Evaluation"]


class Evaluation(Callback):
    """Evaluates every few epochs and after the last; the last epoch's result is the run's, not the best one's.

    The random generators of the training are left as they were.

    Args:
        evaluator: What to measure, and on which images.
        every_epochs: Epochs between evaluations.
        path: Where the last result goes, such as `evaluation.json`; None writes none.
        online: What to measure before the last epoch, such as the same on fewer images; None measures the same.
    """

    every_rank = True  # each extracts its share of the features

    def __init__(
        self, evaluator: Evaluator, every_epochs: int, path: Path | None = None, online: Evaluator | None = None
    ) -> None:
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}")
        self.evaluator, self.online = evaluator, online or evaluator
        self.every_epochs = every_epochs
        self.path = path

    def on_start(self, state: TrainState) -> Mapping[str, float] | None:
        """Makes up for an evaluation that came after the checkpoint; what it found may be in the file already.

        Where a run begins, the file of an earlier one is removed: its results could be taken for those of this run.
        """
        self._check(state)
        if not state.step and self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)
        if state.step and state.epoch_ended:
            return self._evaluate(state, gather_objects(self._found_before(state))[0])
        return None

    def on_epoch(self, state: TrainState) -> Mapping[str, float] | None:
        """Evaluates if the epoch is due, unless the run is stopping; prints the table after the last."""
        return None if state.stopping else self._evaluate(state)

    def _evaluate(self, state: TrainState, results: Results | None = None) -> Mapping[str, float] | None:
        """Measures, unless the results are given, and returns the protocols' own metrics."""
        due = state.finished or round(state.epochs_done) % self.every_epochs == 0
        if not due or state.step in state.evaluations:
            return None
        evaluator = self._evaluator(state)
        if results is None:
            with whole(state.model, state.method.encoder):
                results = gather_objects(evaluator(state.method.encoder))[0]
            if self.path is not None and rank() == 0:
                write_results(self.path, evaluator, results, state.step)
        state.evaluations[state.step] = scores = results.main("trained")
        if state.finished and rank() == 0:
            print(f"\n{results.table(every=False)}\n", flush=True)
        return scores

    def _check(self, state: TrainState) -> None:
        """Refuses, before the first step, what could not be measured after the last."""
        if is_sharded(state.model):
            for protocol in self.evaluator.protocols:
                if getattr(protocol, "copies_encoder", False):
                    name = protocol_name(protocol)
                    raise ConfigError(
                        f"evaluation.{name} trains a copy of the encoder, and under strategy fsdp2 there is none to "
                        f"copy: set it to null, and measure it after the training, by `ssl-lib evaluate RUN {name}`"
                    )

    def _evaluator(self, state: TrainState) -> Evaluator:
        return self.evaluator if state.finished else self.online

    def _found_before(self, state: TrainState) -> Results | None:
        """The results in the file, where they are of this step and of the same settings."""
        try:
            content, results = read_results(self.path or Path())
            shown = [content["images"][key] for key in ("size", "resize", "limit")]
            found = content["steps"], content["protocols"], shown
        except (OSError, ValueError, KeyError, TypeError):
            return None
        evaluator = self._evaluator(state)
        protocols = json.loads(json.dumps(evaluator.settings["protocols"]))
        here = [evaluator.size, evaluator.resize, evaluator.limit]
        return results if found == (state.step, protocols, here) else None
