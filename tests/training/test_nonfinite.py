"""NaN and infinity: the run stops or skips, nothing moves, and the very step can be repeated."""

from __future__ import annotations

import copy
import json
import math
import resource

import pytest
import torch
from torch import nn

from ssl_lib import LARS, CheckpointError, Method, NonFiniteLossError, Schedule, StepOutput, Trainer
from ssl_lib.distributed import rank
from ssl_lib.training.callbacks import Callback, Checkpoints, NonFiniteReport, ProgressBar
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.meter import Meter
from ssl_lib.training.replay import inspect_step
from ssl_lib.training.state import TrainState
from ssl_lib.utils.precision import Precision
from tests.conftest import TinyBackbone
from tests.distributed_helper import run_processes
from tests.training.test_trainer import Recorder, assert_same

SCHEDULE = Schedule(epochs=3, warmup_epochs=1)


class States(Callback):
    """Keeps the whole state after every update, and what was found."""

    def __init__(self):
        self.states, self.found = {}, []

    def on_start(self, state):
        self.on_update(state)

    def on_update(self, state):
        self.states[state.step] = copy.deepcopy(state.state_dict())

    def on_nonfinite(self, state, found):
        self.found.append(found)


def infinite(loss):
    return loss + math.inf


def bad_gradient(loss):
    """Adds nothing, with an infinite slope."""
    return loss + (loss - loss.detach()).abs().sqrt()


def breaking(method, steps, how):
    """Spoils the method's loss at some steps."""
    forward = method.forward

    def spoilt(views, progress):
        noise = torch.rand(())  # of the global generator
        output = forward(views, progress)
        loss = output.loss * (1 + noise)
        return StepOutput(how(loss) if progress.step in steps else loss, output.metrics, output.embeddings)

    method.forward = spoilt
    return method


@pytest.fixture
def train(make_method, make_loader):
    def fit(name, steps, how, run_dir=None, callbacks=(), resume=False, **options):
        method, loader = breaking(make_method(name), steps, how), make_loader(name)
        trainer = Trainer(run_dir, callbacks=list(callbacks), precision="fp32", device="cpu", **options)
        torch.manual_seed(0)
        return trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE, resume=resume)

    return fit


@pytest.mark.parametrize("name", ["byol", "dino"])
@pytest.mark.parametrize("how", [infinite, bad_gradient])
def test_a_bad_update_that_is_skipped_moves_nothing(name, how, train):
    seen, recorder = States(), Recorder()
    train(name, [4], how, callbacks=[seen, recorder], skip_nonfinite=1, log_every=1)
    before, after = seen.states[4], seen.states[5]
    assert_same(before["method"], after["method"])
    assert_same(before["optimizer"]["state"], after["optimizer"]["state"])
    assert not torch.equal(before["processes"][0]["rng"]["cpu"], after["processes"][0]["rng"]["cpu"]), (
        "the step itself is over"
    )
    assert not all(torch.equal(after["method"][key], seen.states[6]["method"][key]) for key in after["method"])
    assert [(found.step, found.skipped, len(found.indices)) for found in seen.found] == [(4, 1, 32)]
    assert [line.get("skipped") for line in recorder.lines] == [None] * 4 + [1] + [None] * 4
    assert "loss" not in recorder.lines[4] and all(map(math.isfinite, [line.get("loss", 0) for line in recorder.lines]))


def test_too_many_bad_updates_in_a_row_stop_the_run(train):
    seen = States()
    train("simclr", [1, 2, 4, 5], infinite, callbacks=[seen], skip_nonfinite=2)
    assert [found.skipped for found in seen.found] == [1, 2, 1, 2]
    seen = States()
    with pytest.raises(NonFiniteLossError, match=r"inf at step 5.*The 2 updates before it were skipped"):
        train("simclr", [3, 4, 5], infinite, callbacks=[seen], skip_nonfinite=2)
    assert [found.skipped for found in seen.found] == [1, 2, 0]


def test_a_bad_gradient_stops_the_run_before_the_optimizer_steps(train):
    seen = States()
    with pytest.raises(NonFiniteLossError, match=r"gradient became NaN or infinite at step 4, in fp32, at lr .*finite"):
        train("simclr", [4], bad_gradient, callbacks=[seen])
    assert max(seen.states) == 4 and math.isfinite(seen.found[0].loss)


def test_a_bad_gradient_that_is_looked_at_later_is_the_cause_named(train, monkeypatch):
    """As on CUDA: the next losses are NaN already."""
    monkeypatch.setattr("ssl_lib.training.trainer.Meter", lambda **options: Meter(at_once=False))
    with pytest.raises(NonFiniteLossError, match="a gradient became NaN or infinite at step 4"):
        train("simclr", [4], bad_gradient, log_every=9)


def test_a_bad_loss_in_one_micro_batch_spoils_the_update(train):
    calls = []

    def third(loss):
        calls.append(loss)
        return loss + (math.nan if len(calls) == 3 else 0.0)

    seen = States()
    train("simclr", [4], third, callbacks=[seen], accumulate=4, skip_nonfinite=1)
    assert len(calls) == 4 and len(seen.found[0].indices) == 32
    assert_same(seen.states[4]["method"], seen.states[5]["method"])


def test_fp16_skips_bad_losses_too(make_method, make_loader):
    method, seen = breaking(make_method("simclr"), [1, 2], infinite), States()
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
    trainer = Trainer(callbacks=[seen], precision="fp16", device="cpu", skip_nonfinite=2)
    trainer.fit(method, make_loader(), optimizer, Schedule(epochs=2))
    assert [found.step for found in seen.found] == [1, 2]
    assert_same(seen.states[1]["method"], seen.states[3]["method"])


@pytest.mark.parametrize("name", ["simclr", "dino"])
@pytest.mark.parametrize("how", [infinite, bad_gradient])
def test_the_state_before_the_step_is_written_bit_for_bit(name, how, train, tmp_path):
    seen = States()
    with pytest.raises(NonFiniteLossError):
        train(name, [4], how, tmp_path, [seen, NonFiniteReport(tmp_path)])
    written = load_checkpoint(tmp_path / "nonfinite.pt")
    written.pop("format")
    expected = seen.states[4]
    for group in (group for state in (written, expected) for group in state["optimizer"]["param_groups"]):
        group["lr"] = None  # set by the schedule as the step begins
    expected["processes"] = [{**own, "rng": _listed(own["rng"])} for own in expected["processes"]]
    assert_same({key: written[key] for key in expected}, expected)
    record = json.loads((tmp_path / "nonfinite.json").read_text())
    assert record["step"] == 4 and record["indices"] == seen.found[0].indices.tolist() and "step 4" in record["reason"]


def _listed(rng):
    """Tuples become lists on disk."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in rng.items()}


@pytest.mark.parametrize("start", ["nonfinite.pt", "checkpoints/last.pt", None])
def test_the_very_step_is_repeated_bit_for_bit(start, train, make_method, make_loader, tmp_path):
    seen = States()
    callbacks = [seen, Checkpoints(tmp_path / "checkpoints"), NonFiniteReport(tmp_path)]
    with pytest.raises(NonFiniteLossError):
        train("dino", [4], bad_gradient, tmp_path, callbacks)
    method, loader = breaking(make_method("dino"), [4], bad_gradient), make_loader("dino")
    trainer = Trainer(tmp_path, callbacks=[seen], precision="fp32", device="cpu")
    torch.manual_seed(0 if start is None else 99)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report = inspect_step(
        *(trainer, method, loader, LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE),
        step=4,
        start=None if start is None else tmp_path / start,
    )
    assert report.loss == seen.found[0].loss == json.loads((tmp_path / "nonfinite.json").read_text())["loss"]
    assert report.indices == seen.found[0].indices.tolist() and report.lr == seen.found[0].lr
    assert report.backward is not None and report.backward.startswith("SqrtBackward0 of ")
    assert "test_nonfinite.py" in report.backward and "sqrt()" in report.backward
    assert report.forward is None and not report.diverged and not report.finite
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert len(trainer.callbacks) == 1 and not torch.is_anomaly_enabled()


def test_a_good_step_is_repeated_too_and_leaves_the_weights_of_the_run(train, make_method, make_loader):
    seen = States()
    train("simclr", [], infinite, callbacks=[seen])
    method, loader = breaking(make_method("simclr"), [], infinite), make_loader()
    torch.manual_seed(0)
    trainer = Trainer(callbacks=[], precision="fp32", device="cpu")
    report = inspect_step(trainer, method, loader, LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE, step=4)
    assert_same(dict(method.state_dict()), dict(seen.states[5]["method"]))
    assert report.finite and len(report.views) == 2 and report.losses == [report.loss]


class Spoils(Method):
    """A layer whose output is infinite for image 17, in the second of two views that pass together."""

    def __init__(self):
        super().__init__()
        self.backbone, self.layer = TinyBackbone(), nn.Identity()

    def forward(self, views, progress):
        hit = torch.cat([torch.zeros(len(views.indices)), (views.indices == 17).float()])
        return StepOutput(self.layer(self.backbone(torch.cat(views.large)) / (1 - hit[:, None])).mean())


def test_the_first_module_and_its_images_are_named(make_loader):
    method = Spoils()
    with torch.no_grad():
        method.backbone[1].bias.fill_(1.0)  # or else a feature may be zero, and 0/0
    optimizer = torch.optim.SGD(method.parameters(), lr=0.0)
    loader = make_loader(batch_size=96)
    report = inspect_step(Trainer(callbacks=[], device="cpu"), method, loader, optimizer, Schedule(epochs=1), step=0)
    assert (
        report.forward.startswith("layer (Identity), 192x16, ") and "its input is not finite either" in report.forward
    )
    assert report.images == [17]


def test_a_step_that_cannot_be_repeated_is_named(train, make_method, make_loader, tmp_path):
    train("simclr", [], infinite, tmp_path, [Checkpoints(tmp_path / "checkpoints")])

    def inspect(step):
        method = make_method("simclr")
        parts = method, make_loader(), LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE
        inspect_step(Trainer(callbacks=[]), *parts, step=step, start=tmp_path / "checkpoints" / "last.pt")

    with pytest.raises(CheckpointError, match="was saved after 9 steps, behind step 4"):
        inspect(4)
    with pytest.raises(ValueError, match="step 9 is none of this run's, 0 to 8"):
        inspect(9)


def test_a_stopped_run_goes_on_where_bad_updates_are_skipped(train, tmp_path):
    callbacks = [Checkpoints(tmp_path / "checkpoints"), NonFiniteReport(tmp_path)]
    with pytest.raises(NonFiniteLossError):
        train("simclr", [4], infinite, tmp_path, callbacks)
    state = train("simclr", [4], infinite, tmp_path, callbacks, resume=True, skip_nonfinite=1)
    assert state.finished and not list(tmp_path.glob("nonfinite.*"))
    unbroken = train("simclr", [4], infinite, skip_nonfinite=1)
    assert_same(state.state_dict(), unbroken.state_dict())


def test_a_new_run_removes_the_report_of_the_one_before(train, tmp_path):
    with pytest.raises(NonFiniteLossError):
        train("simclr", [1], infinite, tmp_path, [NonFiniteReport(tmp_path)])
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"nonfinite.json", "nonfinite.pt"}
    train("simclr", [], infinite, tmp_path, [NonFiniteReport(tmp_path)])
    assert list(tmp_path.glob("[!.]*")) == []


class Reports(Callback):
    """Which steps were done while the files were there."""

    def __init__(self, folder):
        self.folder, self.steps = folder, []

    def on_log(self, state, metrics):
        if list(self.folder.glob("nonfinite.*")):
            self.steps.append(state.step)


@pytest.mark.parametrize("record", [None, "{"])
def test_the_report_goes_when_the_step_is_known_to_be_good_and_not_before(record, train, tmp_path):
    report, reports = NonFiniteReport(tmp_path), Reports(tmp_path)
    callbacks = [Checkpoints(tmp_path / "checkpoints"), reports, report]
    with pytest.raises(NonFiniteLossError):
        train("simclr", [5], infinite, tmp_path, callbacks, log_every=1)
    for _ in range(2):  # in vain, from step 3
        with pytest.raises(NonFiniteLossError):
            train("simclr", [5], infinite, tmp_path, callbacks, log_every=1, resume=True)
    assert reports.steps == [4, 5] * 2 and json.loads((tmp_path / "nonfinite.json").read_text())["step"] == 5
    if record is not None:  # of no use to anyone
        (tmp_path / "nonfinite.json").write_text(record)
    assert train("simclr", [], infinite, tmp_path, callbacks, log_every=1, resume=True).finished
    assert reports.steps[4:] == ([4, 5, 6] if record is None else [4])
    assert not list(tmp_path.glob("nonfinite.*"))


def test_a_list_in_the_report_is_a_line(train, tmp_path):
    with pytest.raises(NonFiniteLossError):
        train("simclr", [1], infinite, tmp_path, [NonFiniteReport(tmp_path)])
    text = (tmp_path / "nonfinite.json").read_text()
    assert len(text.splitlines()) == len(json.loads(text)) + 2


def test_one_skipped_update_is_told_in_the_singular(train):
    with pytest.raises(NonFiniteLossError, match=r"\. The update before it was skipped\."):
        train("simclr", [3, 4], infinite, skip_nonfinite=1)


def test_no_optimizer_step_lies_between_the_written_state_and_the_step(train, tmp_path, monkeypatch):
    """As on CUDA, where the step is found when others followed it: only the record is written."""
    monkeypatch.setattr("ssl_lib.training.trainer.Meter", lambda **options: Meter(at_once=False))
    with pytest.raises(NonFiniteLossError):
        train("simclr", [4], infinite, tmp_path, [NonFiniteReport(tmp_path)], log_every=9)
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"nonfinite.json"}
    assert json.loads((tmp_path / "nonfinite.json").read_text())["loss"] == "inf"


def test_on_a_full_disk_the_error_is_still_that_of_the_numbers(train, tmp_path):
    class FillTheDisk(Callback):
        def on_nonfinite(self, state, found):
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(NonFiniteLossError, match="loss became inf"):
            train("simclr", [4], infinite, callbacks=[FillTheDisk(), NonFiniteReport(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("how", [infinite, bad_gradient])
def test_on_cuda_a_step_waits_for_nothing_and_the_cause_is_found_later(how, make_method, make_loader):
    class NoWaiting(Meter):
        def may_step(self, state):
            torch.cuda.set_sync_debug_mode("error")
            try:
                return super().may_step(state)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_lib.training.trainer.Meter", NoWaiting)
        method = breaking(make_method("simclr"), [4], how)
        trainer = Trainer(callbacks=[], precision="fp32", device="cuda", log_every=9)
        with pytest.raises(NonFiniteLossError, match="at step 4"):
            trainer.fit(method, make_loader(), LARS(method.param_groups(1e-4), lr=0.3), SCHEDULE)


def test_a_negative_number_of_skips_is_refused():
    with pytest.raises(ValueError, match="skip_nonfinite must be at least 0, got -1"):
        Trainer(callbacks=[], skip_nonfinite=-1)


def one_bad_process():
    """What a meter does where the second process alone has a bad loss."""
    method = nn.Sequential(TinyBackbone())
    precision = Precision.resolve("fp32", torch.device("cpu"))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    state = object.__new__(TrainState)
    vars(state).update(method=method, optimizer=optimizer, precision=precision, callbacks=(), step=7)
    state.scaler = precision.scaler()
    meter = Meter(at_once=True, max_skips=1)
    results = {}
    for case, bad in (("good", False), ("bad", rank() == 1)):
        loss = torch.tensor(math.nan if bad else 1.0)
        meter.record(state, StepOutput(loss), 0.1, torch.arange(2))
        results[case] = torch.tensor(meter.may_step(state))
    return results


@pytest.mark.slow
def test_all_processes_skip_together(tmp_path):
    for result in run_processes(one_bad_process, (2,), tmp_path)[2]:
        assert result["good"] and not result["bad"]


def test_an_epoch_of_skipped_updates_is_told_and_goes_on(train, capsys):
    train("simclr", [0, 1, 2, 4], infinite, callbacks=[ProgressBar()], skip_nonfinite=3, log_every=1)
    lines = [line for line in capsys.readouterr().err.splitlines() if "step" in line and "skipped: " not in line]
    assert lines[0].endswith("all updates skipped") and "loss" in lines[1]
    loss = float(lines[1].split("loss ")[1].split()[0])
    assert 3 < loss < 15  # the mean of the updates that were made
