"""When a run is saved, and that saving changes nothing."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import LARS, CheckpointError, Method, Schedule, StepOutput, Trainer
from ssl_lib.training.callbacks import Callback, Checkpoints
from ssl_lib.training.checkpoint import load_checkpoint
from tests.conftest import TinyBackbone, full_disk


class Large(Method):
    """Its 72 MB all hold the number of updates done."""

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


def test_what_is_written_in_the_background_is_of_one_moment(make_loader, tmp_path):
    train(Large(), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9, keep=9))
    assert names(tmp_path) == ["last.pt", *(f"step_0000000{step}.pt" for step in range(1, 7))]
    for step in range(1, 7):
        saved = load_checkpoint(tmp_path / f"step_0000000{step}.pt")
        assert saved["step"] == step and (saved["method"]["updates"] == step).all()


def test_what_a_killed_save_has_left_goes_when_the_run_goes_on(make_method, make_loader, tmp_path):
    """Saves that are due by the clock come at other steps the next time: nothing would be written over it."""
    left = [tmp_path / f"{name}.pt.partial" for name in ("step_00000002", "last", "best")]
    for path in left:
        path.write_bytes(b"half of it")
    others = tmp_path / "images.npy.partial"
    others.touch()
    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path))
    assert others.exists() and not any(path.exists() for path in left)


def test_an_error_in_the_background_ends_the_run(make_loader, tmp_path):
    with full_disk(10**6), pytest.raises(CheckpointError, match=r"step_00000006\.pt: the disk did not take all of it"):
        train(Large(), make_loader(), Checkpoints(tmp_path, save_every=2))
    assert names(tmp_path) == []


def test_saves_within_epochs_and_kept_ones_are_links(make_method, make_loader, tmp_path):
    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9, keep=1, keep_every=1))
    assert names(tmp_path) == ["epoch_0001.pt", "epoch_0002.pt", "last.pt", "step_00000006.pt"]
    assert (tmp_path / "epoch_0002.pt").samefile(tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "epoch_0001.pt")["step"] == 3


def test_the_best_by_knn_is_kept_the_earliest_of_equals(make_method, make_loader, tmp_path):
    class Scores(Callback):
        """Evaluates as `Evaluation` does, with results that are given."""

        def on_epoch(self, state):
            scores = {"knn": [0.2, 0.5, 0.5, 0.4][state.step // 3 - 1], "linear": state.step / 100}
            state.evaluations[state.step] = scores
            state.log(scores)

    saved = Checkpoints(tmp_path, save_every=3, save_minutes=None, keep_best=True)
    train(make_method("simclr"), make_loader(), saved, Scores(), epochs=4)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 6
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 12


def test_the_best_is_found_among_scores_of_one_kind(make_method, make_loader, tmp_path):
    """Of a run that went on with another evaluation."""

    class Scores(Callback):
        def on_epoch(self, state):
            scores = {"knn": 0.9} if state.step == 3 else {"linear": 0.5}
            state.evaluations[state.step] = scores
            state.log(scores)

    train(make_method("simclr"), make_loader(), Checkpoints(tmp_path, keep_best=True), Scores(), epochs=3)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 6


def test_weights_gone_bad_are_not_saved_within_an_epoch(make_loader, tmp_path):
    class Poison(Large):
        def after_update(self, progress):
            if progress.step == 1:
                next(self.backbone.parameters()).data.fill_(float("nan"))

    with pytest.raises(ArithmeticError, match="weights became NaN"):
        train(Poison(), make_loader(), Checkpoints(tmp_path, save_minutes=1e-9))
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_a_save_within_an_epoch_holds_its_batches_and_not_the_epochs_order(make_method, make_loader):
    """Of a tensor that is a part of another, all of the other would be saved: once in every process."""

    class Look(Callback):
        def on_update(self, state):
            seen.extend(entry["indices"] for entry in state.meter.state_dict()["records"])

    seen = []
    train(make_method("simclr"), make_loader(), Look(), epochs=1)
    assert len(seen) == 3
    assert all(indices.untyped_storage().nbytes() == indices.nbytes for indices in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"keep": 0}, "keep"), ({"save_every": 0}, "save_every"), ({"save_minutes": 0.0}, "save_minutes must be above 0")],
)
def test_bad_numbers_are_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, **arguments)
