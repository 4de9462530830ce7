"""Evaluates the encoder during and after the training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ssl_lib.distributed import gather_objects, rank
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.evaluation import Evaluator, Results, protocol_name, read_results, write_results
from ssl_lib.training.callbacks.base import Callback
from ssl_lib.training.fsdp import is_sharded, whole
from ssl_lib.training.state import TrainState

__all__ = ["Evaluation"]


class Evaluation(Callback):
    """Evaluates every few epochs and after the last epoch, whose result is the result of the run, not the best one.

    The random generators of the training do not change.

    Args:
        evaluator: Protocols and images.
        every_epochs: Epochs between evaluations.
        path: File of the latest result, such as `evaluation.json`; None writes no file.
        online: Evaluator before the last epoch, such as one with fewer images; None takes `evaluator`.
    """

    every_rank = True  # each process extracts a part of the features

    def __init__(
        self, evaluator: Evaluator, every_epochs: int, path: Path | None = None, online: Evaluator | None = None
    ) -> None:
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}")
        self.evaluator, self.online = evaluator, online or evaluator
        self.every_epochs = every_epochs
        self.path = path
        self._table = ""

    def on_start(self, state: TrainState) -> Mapping[str, float] | None:
        """Evaluates a resumed run if its checkpoint was saved before an evaluation that is due.

        Results that are already in the file are not measured again. A new run removes the file of an earlier run.
        """
        self._check(state)
        if not state.step and self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)
        if state.step and state.epoch_ended:
            return self._evaluate(state, gather_objects(self._read_results(state))[0])
        return None

    def on_epoch(self, state: TrainState) -> Mapping[str, float] | None:
        """Evaluates if the epoch is due, unless the run is stopping."""
        return None if state.stopping else self._evaluate(state)

    def on_log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Prints the table after the last epoch, once its scores are logged."""
        table, self._table = self._table, ""
        if table and rank() == 0:
            print(f"\n{table}\n", flush=True)

    def _evaluate(self, state: TrainState, results: Results | None = None) -> Mapping[str, float] | None:
        """Evaluates, unless results are given, and returns the main metric of each protocol."""
        due = state.at_end or round(state.epochs_done) % self.every_epochs == 0
        if not due or state.step in state.evaluations:
            return None
        evaluator = self._evaluator(state)
        if results is None:
            with whole(state.model, state.method.encoder):
                results = gather_objects(evaluator(state.method.encoder))[0]
            if self.path is not None and rank() == 0:
                write_results(self.path, evaluator, results, state.step)
        state.evaluations[state.step] = scores = results.main("trained")
        self._table = results.table(every=False) if state.finished else ""
        return scores

    def _check(self, state: TrainState) -> None:
        """Refuses, before the first step, protocols that cannot run after the last step."""
        if is_sharded(state.model):
            for protocol in self.evaluator.protocols:
                if getattr(protocol, "copies_encoder", False):
                    name = protocol_name(protocol)
                    raise ConfigError(
                        f"evaluation.{name} trains a copy of the encoder, and strategy fsdp2 cannot copy it: set "
                        f"evaluation.{name} to null and evaluate after the training with `ssl-lib evaluate RUN {name}`"
                    )

    def _evaluator(self, state: TrainState) -> Evaluator:
        return self.evaluator if state.at_end else self.online

    def _read_results(self, state: TrainState) -> Results | None:
        """The results in the file, if they are of this step and have the same settings; else None."""
        try:
            content, results = read_results(self.path or Path())
            images = [content["images"][key] for key in ("size", "resize", "limit")]
            settings = content["steps"], content["protocols"], images
        except (DataError, KeyError, TypeError):
            return None
        evaluator = self._evaluator(state)
        protocols = json.loads(json.dumps(evaluator.settings["protocols"]))
        expected = state.step, protocols, [evaluator.size, evaluator.resize, evaluator.limit]
        return results if settings == expected else None
