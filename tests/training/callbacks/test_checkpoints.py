"""The callback Checkpoints: when a run is saved, which files are kept, and errors."""

from __future__ import annotations

import os

import pytest
import torch

from ssl_lib import LARS, CheckpointError, Method, Schedule, StepOutput, Trainer
from ssl_lib.training.callbacks import Callback, Checkpoints
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.utils.seeding import seed_everything
from tests.conftest import TinyBackbone, full_disk
from tests.training.reliability_helper import assert_identical


class Large(Method):
    """A state of 72 MB, whose values are all the number of updates."""

    def __init__(self):
        super().__init__()
        self.backbone = TinyBackbone()
        self.register_buffer("updates", torch.zeros(18_000_000))

    def forward(self, views, progress):
        return StepOutput(self.backbone(views.large[0]).mean())

    def after_update(self, progress):
        self.updates += 1


def train(method, loader, *callbacks, epochs=2, **options):
    trainer = Trainer(callbacks=callbacks, precision="fp32", device="cpu", **options)
    return trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=epochs))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_background_saves_are_consistent_snapshots(make_loader, tmp_path):
    train(Large(), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9, keep=9))
    assert names(tmp_path) == ["last.pt", *(f"step_0000000{step}.pt" for step in range(1, 7))]
    for step in range(1, 7):
        saved = load_checkpoint(tmp_path / f"step_0000000{step}.pt")
        assert saved["step"] == step and (saved["method"]["updates"] == step).all()


def test_partial_files_of_a_killed_save_are_removed_at_the_start(make_method, make_loader, tmp_path):
    """Saves by time happen at other steps after a resume, so that nothing would overwrite the files."""
    partial = [tmp_path / f"{name}.pt.partial" for name in ("step_00000002", "last", "best")]
    for path in partial:
        path.write_bytes(b"half of it")
    other = tmp_path / "images.npy.partial"
    other.touch()
    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path))
    assert other.exists() and not any(path.exists() for path in partial)


def test_error_of_a_background_save_ends_the_run(make_loader, tmp_path):
    message = r"step_00000006\.pt: the file could not be written completely .*MB free"
    with full_disk(10**6), pytest.raises(CheckpointError, match=message):
        train(Large(), make_loader(), Checkpoints(tmp_path, save_every=2))
    assert names(tmp_path) == []


def test_run_saves_within_epochs_and_kept_checkpoints_are_links(make_method, make_loader, tmp_path):
    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9, keep=1, keep_every=1))
    assert names(tmp_path) == ["epoch_0001.pt", "epoch_0002.pt", "last.pt", "step_00000006.pt"]
    assert (tmp_path / "epoch_0002.pt").samefile(tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "epoch_0001.pt")["step"] == 3


def test_best_checkpoint_is_the_earliest_with_the_highest_knn_accuracy(make_method, make_loader, tmp_path):
    class Scores(Callback):
        """Reports fixed results, like `Evaluation`."""

        def on_epoch(self, state):
            scores = {"knn": [0.2, 0.5, 0.5, 0.4][state.step // 3 - 1], "linear": state.step / 100}
            state.evaluations[state.step] = scores
            return scores

    saved = Checkpoints(tmp_path, save_every=3, save_minutes=None, keep_best=True)
    train(make_method("simclr"), make_loader(), saved, Scores(), epochs=4)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 6
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 12


def test_best_checkpoint_compares_only_scores_of_the_same_protocol(make_method, make_loader, tmp_path):
    """As in a run that is resumed with another evaluation."""

    class Scores(Callback):
        def on_epoch(self, state):
            scores = {"knn": 0.9} if state.step == 3 else {"linear": 0.5}
            state.evaluations[state.step] = scores
            return scores

    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path, keep_best=True), Scores(), epochs=3)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 6


class ScoresOnce(Callback):
    """Reports a rising score per epoch, also after a resume, like `Evaluation`; is killed in an epoch's evaluation."""

    def __init__(self, killed_at=0):
        self.killed_at = killed_at

    def on_start(self, state):
        return self.on_epoch(state) if state.step else None

    def on_epoch(self, state):
        if state.step == self.killed_at:
            raise KeyboardInterrupt
        if state.step in state.evaluations:
            return None
        state.evaluations[state.step] = {"knn": state.step / 100}
        return state.evaluations[state.step]


@pytest.mark.parametrize("killed_at", [3, 6])
@pytest.mark.parametrize("linked", [True, False])
def test_best_checkpoint_of_a_run_killed_in_its_evaluation_equals_the_uninterrupted_one(
    killed_at, linked, make_method, make_loader, tmp_path, monkeypatch
):
    """Without links, as on some file systems, `best.pt` is a copy."""
    if not linked:
        monkeypatch.setattr(os, "link", unsupported)
    states = {}
    for name, at in (("uninterrupted", 0), ("killed", killed_at)):
        folder = tmp_path / name

        def fit(at, resume=False, folder=folder):
            saved = Checkpoints(folder / "checkpoints", save_minutes=None, keep_best=True)
            seed_everything(0)
            train_into(folder, make_method("simclr"), make_loader(), [saved, ScoresOnce(at)], resume)

        if at:
            with pytest.raises(KeyboardInterrupt):
                fit(at)
            fit(0, resume=True)
        else:
            fit(0)
        states[name] = load_checkpoint(folder / "checkpoints" / "best.pt")
        same = (folder / "checkpoints" / "best.pt").samefile(folder / "checkpoints" / "step_00000006.pt")
        assert same == linked and states[name]["step"] == 6
    assert_identical(states["killed"], states["uninterrupted"])


def unsupported(*_):
    raise OSError("this file system has no links")


def train_into(folder, method, loader, callbacks, resume):
    trainer = Trainer(folder, callbacks=callbacks, precision="fp32", device="cpu")
    trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=2), resume=resume)


def test_nonfinite_weights_are_not_saved_within_an_epoch(make_loader, tmp_path):
    class PoisonWeights(Large):
        def after_update(self, progress):
            if progress.step == 1:
                next(self.backbone.parameters()).data.fill_(float("nan"))

    with pytest.raises(ArithmeticError, match="weights became NaN"):
        train(PoisonWeights(), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9))
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_recorded_indices_are_copies_and_not_views_of_the_epochs_order(make_method, make_loader):
    """torch.save would save a view's whole storage, once per process."""

    class RecordIndices(Callback):
        def on_update(self, state):
            recorded.extend(entry["indices"] for entry in state.meter.state_dict()["records"])

    recorded = []
    train(make_method("simclr"), make_loader(), RecordIndices(), epochs=1)
    assert len(recorded) == 3
    assert all(indices.untyped_storage().nbytes() == indices.nbytes for indices in recorded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"keep": 0}, "keep"), ({"save_every": 0}, "save_every"), ({"save_minutes": 0.0}, "save_minutes must be above 0")],
)
def test_number_out_of_range_is_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, **arguments)
