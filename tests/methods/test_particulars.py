"""Properties of individual methods: forward passes, losses, schedules and parameter groups."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ssl_lib.methods
from ssl_lib import Progress, SimCLR, Views
from tests.conftest import TinyBackbone

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


class Recorder(nn.Module):
    """A backbone that records batch size and resolution of its inputs."""

    out_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyBackbone()
        self.batches: list[tuple[int, int]] = []

    def forward(self, images):
        self.batches.append((len(images), images.shape[-1]))
        return self.inner(images)


def random_views(large=2, small=0, n=8):
    generator = torch.Generator().manual_seed(1)

    def draw(count, size):
        return tuple(torch.randn(n, 1, size, size, generator=generator) for _ in range(count))

    return Views(draw(large, 16), draw(small, 8))


@pytest.mark.parametrize(
    ("name", "batches"),
    [
        ("simclr", [(16, 16)]),
        ("byol", [(8, 16), (8, 16)]),
        ("simsiam", [(8, 16), (8, 16)]),
        ("barlow_twins", [(8, 16), (8, 16)]),
        ("vicreg", [(8, 16), (8, 16)]),
    ],
)
def test_views_share_a_forward_pass_as_in_the_reference(name, batches, make_method):
    method = make_method(name, backbone=Recorder())
    method(random_views(), START)
    assert method.backbone.batches == batches


def test_dino_views_of_one_size_share_a_forward_pass(make_method):
    method = make_method("dino", backbone=Recorder())
    method(random_views(2, 3), START)
    assert method.backbone.batches == [(16, 16), (24, 8)]
    assert method.teacher.parts[0].batches == [(16, 16)]


def test_three_views_raise_in_a_siamese_method():
    with pytest.raises(ValueError, match="got 3 large and 0 small"):
        SimCLR(TinyBackbone())(random_views(3), START)


def test_byol_loss_is_the_sum_of_both_regression_losses(make_method):
    method = make_method("byol")
    views = random_views()
    loss = method(views, START).loss

    expected = 0.0
    online = [method.predictor(method.projector(method.backbone(x))) for x in views.large]
    targets = [method.teacher(x) for x in views.large]
    for prediction, target in ((online[0], targets[1]), (online[1], targets[0])):
        expected += (F.normalize(prediction, dim=1) - F.normalize(target, dim=1)).square().sum(1).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_simsiam_loss_equals_the_formula(make_method):
    method = make_method("simsiam")
    views = random_views()
    loss = method(views, START).loss
    z = [method.projector(method.backbone(x)) for x in views.large]
    p = [method.predictor(x) for x in z]

    def cosine(a, b):
        return F.cosine_similarity(a, b.detach()).mean()

    torch.testing.assert_close(loss, -(cosine(p[0], z[1]) + cosine(p[1], z[0])) / 2, rtol=1e-5, atol=1e-6)


def test_simsiam_decays_all_parameters_and_fixes_the_predictor_lr(make_method):
    method = make_method("simsiam")
    groups = method.param_groups(0.1)
    assert all(group["weight_decay"] == 0.1 for group in groups)
    fixed = {id(p) for group in groups if group.get("fixed_lr") for p in group["params"]}
    assert fixed == {id(p) for p in method.predictor.parameters()}


def test_barlow_twins_scales_the_lr_of_biases_and_norms(make_method):
    groups = make_method("barlow_twins").param_groups(0.1)
    for group in groups:
        expected = 0.0048 / 0.2 if all(p.ndim == 1 for p in group["params"]) else 1.0
        assert group["lr_scale"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_ema_momentum_increases_to_one_by_a_cosine(name, make_method):
    method = make_method(name, momentum=0.99)
    for step in (0, 25, 99):
        expected = 1 - (1 - 0.99) * (1 + math.cos(math.pi * step / 100)) / 2
        assert method.ema_momentum(Progress(step, 100, 10)) == pytest.approx(expected, abs=1e-12)


def test_dino_freezes_the_prototypes_in_the_first_epoch(make_method):
    method = make_method("dino")
    for step, frozen in ((9, True), (10, False)):
        method(random_views(), START).loss.backward()
        method.before_update(Progress(step, 100, 10))
        assert all((p.grad is None) == frozen for p in method.prototypes.parameters() if p.requires_grad)


def test_dino_teacher_temperature_warms_up_per_epoch_as_in_the_reference(make_method):
    method = make_method("dino", warmup_teacher_temperature=0.04, teacher_temperature=0.07, warmup_temperature_epochs=4)
    temperatures = []
    method.loss.forward = lambda student, teacher, temperature: temperatures.append(temperature) or student[0].sum()
    for epoch in range(6):
        method(random_views(), Progress(epoch * 10 + 5, 100, 10))
    assert temperatures == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])


def test_dino_center_is_updated_once_with_the_mean_of_all_micro_batches(make_method):
    method = make_method("dino", center_momentum=0.9)
    views = random_views()
    logits = []
    method.teacher.register_forward_hook(lambda module, args, out: logits.append(out))
    method(views, START)
    method(views, START)
    assert not method.loss.center.any(), "the center changed before the update"
    method.loss.commit()
    torch.testing.assert_close(method.loss.center, 0.1 * torch.cat(logits).mean(0, keepdim=True))
    method.loss.commit()
    torch.testing.assert_close(method.loss.center, 0.1 * torch.cat(logits).mean(0, keepdim=True))


def test_skipped_update_does_not_change_the_dino_center(make_method):
    method = make_method("dino")
    method(random_views(), START)
    method.loss.rollback()
    method.loss.commit()
    assert not method.loss.center.any()


def test_dino_encoder_is_the_teacher_backbone(make_method):
    method = make_method("dino")
    assert method.encoder is method.teacher.parts[0]
    assert make_method("byol").encoder.training


@pytest.mark.parametrize("path", sorted(Path(ssl_lib.methods.__file__).parent.glob("[!_]*.py")), ids=lambda p: p.stem)
def test_method_file_has_at_most_60_lines_of_code(path):
    """Docstrings and blank lines are not counted."""
    import ast

    source = path.read_text(encoding="utf-8")
    docs: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docs.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    code = [n for n, line in enumerate(source.splitlines(), 1) if line.strip() and n not in docs]
    assert len(code) <= 60
