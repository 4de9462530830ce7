"""The callback Diagnosis: its metrics, that it does not affect the training, and its files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from ssl_lib import LARS, Loader, Schedule, Trainer, ViewPipeline
from ssl_lib.doctor import diagnose
from ssl_lib.doctor.measures import process_gap, relative_distance
from ssl_lib.evaluation import effective_rank, explained_variance, feature_std, prototype_usage, view_distance
from ssl_lib.training.callbacks import Callback, Diagnosis, default_callbacks
from tests.conftest import pattern_images, small_method, small_views
from tests.distributed_helper import run_processes
from tests.doctor.short_runs import findings_of, small
from tests.training.helpers import StopAfter


class UpdateRecorder(Callback):
    """Records the lines, and outputs, gradients and weights of each line's last update."""

    def __init__(self):
        self.lines, self.outputs, self.gradients, self.before, self.after = [], [], [], [], []

    def on_backward(self, state, output):
        self.outputs.append(output)
        self.gradients.append([weight.grad.clone() for weight in state.method.parameters() if weight.grad is not None])
        self.before.append([weight.detach().clone() for weight in state.method.parameters() if weight.requires_grad])

    def on_update(self, state):
        self.after.append([weight.detach().clone() for weight in state.method.parameters() if weight.requires_grad])
        teacher = getattr(state.method, "teacher", None)
        self.teacher = None if teacher is None else [weight.clone() for weight in teacher.parameters()]

    def on_log(self, state, metrics):
        self.lines.append(dict(metrics))


def fit(make_method, make_loader, name, callbacks, log_every=2, epochs=1, **options):
    method = make_method(name)
    trainer = Trainer(callbacks=callbacks, precision="fp32", device="cpu", log_every=log_every, **options)
    return trainer.fit(method, make_loader(name), LARS(method.param_groups(1e-4), lr=0.3), Schedule(epochs=epochs))


def flat(tensors):
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def test_line_has_the_metrics_of_its_last_update(make_method, make_loader):
    recorder = UpdateRecorder()
    state = fit(make_method, make_loader, "dino", [recorder, Diagnosis()])  # three updates, lines after 2 and 3
    line, output = recorder.lines[-1], recorder.outputs[-1]
    assert len(recorder.lines) == len(recorder.outputs) == 2, "embeddings are only measured for a line"
    assert line["feature_std"] == feature_std(output.embeddings)
    assert line["effective_rank"] == effective_rank(output.embeddings)
    assert line["variance_top4"] == explained_variance(output.embeddings)[:4].sum()
    assert 0 < line["variance_top1"] < line["variance_top4"] < line["variance_top16"] < 1 + 1e-12
    assert line["view_distance"] == view_distance(output.embeddings, output.embeddings_b)
    assert line["prototype_usage"] == prototype_usage(output.assignments)
    assert line["gradient_norm"] == pytest.approx(np.linalg.norm(flat(recorder.gradients[-1])), rel=1e-5)
    before, after, teacher = flat(recorder.before[-1]), flat(recorder.after[-1]), flat(recorder.teacher)
    assert line["update_ratio"] == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-3)
    assert line["weight_rms"] == pytest.approx(math.sqrt(np.mean(after**2)), rel=1e-5)
    student = flat(part for parts in state.method.ema_pairs()[0][1] for part in parts.parameters())
    expected = np.linalg.norm(teacher - student) / np.linalg.norm(student)
    assert line["teacher_distance"] == pytest.approx(expected, rel=1e-4)
    assert line["teacher_momentum"] == state.method.ema_momentum(state.last_progress)


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
def test_diagnosis_does_not_change_the_training(name, make_method, make_loader):
    states = []
    for callbacks in ([], [Diagnosis()]):
        torch.manual_seed(5)
        states.append(fit(make_method, make_loader, name, callbacks).state_dict())
    for key in ("method", "optimizer", "processes"):
        assert str(states[0][key]) == str(states[1][key])
    assert all(torch.equal(a, b) for a, b in zip(*(s["method"].values() for s in states), strict=True))


def test_dino_returns_detached_assignments(make_method, make_loader):
    recorder = UpdateRecorder()
    fit(make_method, make_loader, "dino", [recorder])
    assignments = recorder.outputs[-1].assignments
    assert assignments.shape == (32, 32) and not assignments.requires_grad
    assert torch.allclose(assignments.sum(1), torch.ones(32))


def test_metric_of_a_method_takes_precedence_over_the_diagnosis(make_method, make_loader):
    recorder, method = UpdateRecorder(), make_method("simclr")
    own = method.forward

    def forward(views, progress):
        output = own(views, progress)
        output.metrics["alignment"] = torch.tensor(42.0)
        return output

    method.forward = forward
    trainer = Trainer(callbacks=[Diagnosis(), recorder], precision="fp32", device="cpu", log_every=1)
    trainer.fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=1))
    assert {line["alignment"] for line in recorder.lines} == {42.0}


def test_skipped_updates_have_no_metrics(make_method, make_loader):
    recorder, method = UpdateRecorder(), make_method("simclr")
    own = method.forward

    def forward(views, progress):
        output = own(views, progress)
        return output if progress.step != 1 else type(output)(output.loss * math.nan, {}, output.embeddings)

    method.forward = forward
    options = {"precision": "fp32", "device": "cpu", "log_every": 2, "skip_nonfinite": 1}
    trainer = Trainer(callbacks=[Diagnosis(), recorder], **options)
    trainer.fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=1))
    assert "gradient_norm" not in recorder.lines[0] and recorder.lines[0]["skipped"] == 1
    assert "gradient_norm" in recorder.lines[1]


def test_finding_is_printed_once_and_written(make_method, make_loader, tmp_path, capfd):
    (finding,) = findings_of(small("byol", momentum=1.0), epochs=1, log_every=2, folder=tmp_path)
    err = capfd.readouterr().err
    assert err.count("warning: frozen teacher at step 5") == 1 and finding.cure in err
    written = json.loads((tmp_path / "diagnosis.json").read_text())
    assert [entry["name"] for entry in written["findings"]] == ["frozen teacher"]
    facts = written["facts"]
    assert (facts["total_steps"], facts["rows"], facts["embedding_dim"]) == (16, 64, 16)


def test_resumed_run_ends_with_the_same_diagnosis_and_repeats_no_warning(make_method, make_loader, tmp_path, capfd):
    def run(folder, epochs, resume=False):

        method = make_method("byol", momentum=1.0)
        stopper = StopAfter(3 * epochs)
        callbacks = [*default_callbacks(folder), stopper]
        trainer = Trainer(folder, callbacks=callbacks, precision="fp32", device="cpu", log_every=1)
        stopper.trainer = trainer
        optimizer = LARS(method.param_groups(0.0), lr=0.3)
        trainer.fit(method, make_loader("byol"), optimizer, Schedule(epochs=3), resume=resume)
        return capfd.readouterr().err.count("frozen teacher")

    assert run(tmp_path / "a", 3) == 1
    assert run(tmp_path / "b", 2) == 1
    assert run(tmp_path / "b", 3, resume=True) == 0
    contents = [(tmp_path / name / "diagnosis.json").read_bytes() for name in "ab"]
    assert contents[0] == contents[1]
    doctors = [diagnose(tmp_path / name) for name in "ab"]
    assert doctors[0].findings == doctors[1].findings != []


def test_damaged_diagnosis_does_not_prevent_a_resume(make_method, make_loader, tmp_path, capfd):
    def run(resume=False, after=None):
        stopper = StopAfter(after)
        callbacks = [*default_callbacks(tmp_path), stopper]
        trainer = Trainer(tmp_path, callbacks=callbacks, precision="fp32", device="cpu", log_every=1)
        stopper.trainer = trainer
        method = make_method("simclr")
        trainer.fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=2), resume=resume)

    run(after=3)
    (tmp_path / "diagnosis.json").write_text('{"facts": ')
    run(resume=True)
    assert "diagnosis.json is damaged" in capfd.readouterr().err
    assert diagnose(tmp_path).history.step == 5


def last_line() -> dict[str, torch.Tensor]:
    """The last line of a short run, in all processes of the group."""

    class RecordLine(Callback):
        every_rank = True

        def on_log(self, state, metrics):
            self.line = dict(metrics)

    recorder, images = RecordLine(), pattern_images()
    loader = Loader(images, ViewPipeline(small_views("dino"), images.mean, images.std), 32)
    method = small_method("dino")
    trainer = Trainer(callbacks=[recorder, Diagnosis()], precision="fp32", device="cpu", log_every=3)
    trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.3), Schedule(epochs=1))
    return {name: torch.tensor(float(value)) for name, value in recorder.line.items()}


def test_two_processes_measure_the_same_as_one_on_the_joined_batch(tmp_path):
    results = run_processes(last_line, (1, 2), tmp_path)
    ((one,), (first, second)) = results[1], results[2]
    times = {"images_per_second", "data_wait", "memory_gb"}
    assert first.keys() - one.keys() == {"process_gap"}
    assert 0 < first["process_gap"] < 4
    for name in one.keys() - times:
        assert first[name] == second[name], name
        assert first[name].item() == pytest.approx(one[name].item(), rel=2e-3), name


def test_process_gap_equals_the_f_statistic():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 20, 5)) + generator.normal(size=(3, 1, 5))
    means = x.mean(1)
    between = 20 * ((means - means.mean(0)) ** 2).sum() / 2
    within = ((x - means[:, None]) ** 2).sum() / (3 * 19)
    assert process_gap(torch.from_numpy(x.reshape(60, 5)), 3) == pytest.approx(between / within, rel=1e-12)
    alike = torch.randn(4000, 50, generator=torch.Generator().manual_seed(0))
    assert process_gap(alike, 4) == pytest.approx(1, abs=0.2)


def test_relative_distance_equals_the_formula():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])
    assert relative_distance([a, b], [torch.zeros(2), torch.full((1, 1), 2.0)]) == pytest.approx(math.sqrt(13) / 2)
