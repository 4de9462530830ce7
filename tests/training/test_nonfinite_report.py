"""`nonfinite.json`: the record of the step at which a NaN or infinite value stopped a run."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from ssl_lib import NonFiniteLossError
from ssl_lib.training.callbacks import Callback, Checkpoints, NonFiniteReport
from tests.conftest import full_disk
from tests.training.nonfinite_helper import RecordStates, infinite_loss


def test_report_has_step_reason_and_images(train_with_bad_steps, tmp_path):
    recorder = RecordStates()
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [4], infinite_loss, tmp_path, [recorder, NonFiniteReport(tmp_path)])
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["step"] == 4 and "step 4" in report["reason"]
    assert report["indices"] == recorder.found[0].indices.tolist()


def test_infinite_loss_is_written_as_text(train_with_bad_steps, tmp_path):
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [4], infinite_loss, tmp_path, [NonFiniteReport(tmp_path)])
    assert json.loads((tmp_path / "nonfinite.json").read_text())["loss"] == "inf"


def test_report_has_one_line_per_key(train_with_bad_steps, tmp_path):
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [1], infinite_loss, tmp_path, [NonFiniteReport(tmp_path)])
    text = (tmp_path / "nonfinite.json").read_text()
    assert len(text.splitlines()) == len(json.loads(text)) + 2


def test_new_run_removes_the_report_of_an_earlier_run(train_with_bad_steps, tmp_path):
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [1], infinite_loss, tmp_path, [NonFiniteReport(tmp_path)])
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"nonfinite.json"}
    train_with_bad_steps("simclr", [], infinite_loss, tmp_path, [NonFiniteReport(tmp_path)])
    assert list(tmp_path.glob("[!.]*")) == []


class StepsWithReport(Callback):
    """Records the steps at which the report exists."""

    def __init__(self, folder):
        self.folder, self.steps = folder, []

    def on_log(self, state, metrics):
        if list(self.folder.glob("nonfinite.*")):
            self.steps.append(state.step)


@pytest.mark.parametrize("damaged", [None, "{"])
def test_report_is_removed_only_after_its_step_succeeds(damaged, train_with_bad_steps, tmp_path):
    report, observer = NonFiniteReport(tmp_path), StepsWithReport(tmp_path)
    callbacks = [Checkpoints(tmp_path / "checkpoints"), observer, report]
    with pytest.raises(NonFiniteLossError):
        train_with_bad_steps("simclr", [5], infinite_loss, tmp_path, callbacks, log_every=1)
    for _ in range(2):  # resumes from step 3 and fails again
        with pytest.raises(NonFiniteLossError):
            train_with_bad_steps("simclr", [5], infinite_loss, tmp_path, callbacks, log_every=1, resume=True)
    assert observer.steps == [4, 5] * 2 and json.loads((tmp_path / "nonfinite.json").read_text())["step"] == 5
    if damaged is not None:
        (tmp_path / "nonfinite.json").write_text(damaged)
    assert train_with_bad_steps("simclr", [], infinite_loss, tmp_path, callbacks, log_every=1, resume=True).finished
    assert observer.steps[4:] == ([4, 5, 6] if damaged is None else [4])
    assert not list(tmp_path.glob("nonfinite.*"))


def test_error_names_the_loss_even_if_the_disk_is_full(train_with_bad_steps, tmp_path):
    with ExitStack() as stack:

        class FillDisk(Callback):
            def on_nonfinite(self, state, found):
                stack.enter_context(full_disk(10))

        with pytest.raises(NonFiniteLossError, match="loss became inf"):
            train_with_bad_steps("simclr", [4], infinite_loss, callbacks=[FillDisk(), NonFiniteReport(tmp_path)])
    assert not list(tmp_path.iterdir())
