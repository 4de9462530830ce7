"""The callback Evaluation in resumed runs: when results in the file are reused."""

from __future__ import annotations

import json

import pytest

from ssl_lib import LARS, Schedule, Trainer
from ssl_lib.evaluation import KNN, Evaluator
from ssl_lib.training.callbacks import Callback, Checkpoints, Evaluation
from tests.conftest import TinyBackbone


class InterruptBeforeEvaluation(Callback):
    """Interrupts the run after the epoch is saved, before it is evaluated."""

    def on_epoch(self, state):
        raise KeyboardInterrupt


@pytest.fixture
def fit(make_method, make_loader, images, tmp_path):
    def train(*callbacks, size=16, resume=False, seed=0):
        evaluator = Evaluator(images, images, [KNN(k=3)], random_encoder=TinyBackbone(), size=size)
        evaluation = Evaluation(evaluator, 1, tmp_path / "evaluation.json")
        callbacks = [Checkpoints(tmp_path / "checkpoints"), *callbacks, evaluation]
        trainer = Trainer(tmp_path, callbacks=callbacks, precision="fp32", device="cpu")
        method = make_method("simclr")
        optimizer = LARS(method.param_groups(0.0), lr=0.1)
        return trainer.fit(method, make_loader(seed=seed), optimizer, Schedule(epochs=1), resume=resume)

    return train


def write_impossible_result(path):
    """Replaces the kNN accuracy in the file by -1."""
    content = json.loads(path.read_text())
    content["results"]["trained"]["knn"] = -1
    path.write_text(json.dumps(content))


def test_results_in_the_file_are_reused_if_step_and_size_are_equal(fit, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(InterruptBeforeEvaluation())
    fit(resume=True)
    write_impossible_result(tmp_path / "evaluation.json")
    assert fit(resume=True).evaluations == {3: {"knn": -1}}
    assert fit(resume=True, size=8).evaluations[3]["knn"] > 0


def test_results_of_an_earlier_run_are_not_reused(fit, tmp_path):
    fit()
    write_impossible_result(tmp_path / "evaluation.json")
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        fit(InterruptBeforeEvaluation(), seed=1)
    assert fit(resume=True, seed=1).evaluations[3]["knn"] > 0
