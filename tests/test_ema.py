"""EMA teacher: update formula, BatchNorm, and disabled dropout and stochastic depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from ssl_lib import EMATeacher
from tests.conftest import TinyBackbone


def test_update_averages_parameters_but_not_buffers():
    student = TinyBackbone()
    teacher = EMATeacher(student)
    for parameter in student.parameters():
        nn.init.normal_(parameter)
    student[1].running_mean.fill_(7.0)
    old = [p.double() for p in teacher.parameters()]
    teacher.update([student], 0.9)
    for before, after, weight in zip(old, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(after.double(), 0.9 * before + 0.1 * weight.double(), rtol=1e-6, atol=1e-7)
    assert not teacher.parts[0][1].running_mean.any()


def test_momentum_one_keeps_and_zero_copies_the_student():
    student = TinyBackbone()
    teacher = EMATeacher(student)
    nn.init.ones_(student[0].weight)
    before = teacher.parts[0][0].weight.clone()
    teacher.update([student], 1.0)
    assert torch.equal(teacher.parts[0][0].weight, before)
    teacher.update([student], 0.0)
    assert torch.equal(teacher.parts[0][0].weight, student[0].weight)


def test_teacher_parameters_and_output_require_no_gradient():
    teacher = EMATeacher(TinyBackbone(), nn.Linear(16, 4))
    assert not any(p.requires_grad for p in teacher.parameters())
    out = teacher(torch.randn(4, 1, 16, 16, requires_grad=True))
    assert out.shape == (4, 4) and not out.requires_grad


def test_train_mode_keeps_dropout_and_stochastic_depth_disabled():
    student = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.9), StochasticDepth(0.9, "row"))
    parent = nn.ModuleDict({"student": student, "teacher": EMATeacher(student)}).train()
    x = torch.randn(64, 8)
    expected = nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(parent["teacher"](x), expected)
    assert parent["teacher"].parts[0][0].running_mean.any()


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_bad_momentum_raises(momentum):
    with pytest.raises(ValueError, match="EMA momentum must be in"):
        EMATeacher(TinyBackbone()).update([TinyBackbone()], momentum)


def test_mismatched_or_missing_parts_raise():
    teacher = EMATeacher(TinyBackbone())
    with pytest.raises(ValueError, match="do not have the same parameters as the modules it copied"):
        teacher.update([nn.Linear(3, 3)], 0.9)
    with pytest.raises(ValueError, match="at least one module"):
        EMATeacher()


def test_train_mode_disables_drop_path_but_trains_the_norm_inside():
    class Block(nn.Module):
        """A residual branch with stochastic depth in timm's style."""

        drop_prob = 0.5

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return x + self.norm(x) * (0.0 if self.training else 1.0)

    teacher = EMATeacher(Block()).train()
    assert teacher.parts[0].norm.training and not teacher.parts[0].training


def test_train_mode_keeps_attention_dropout_disabled():
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    part = EMATeacher(attention).train().parts[0]
    x = torch.randn(2, 5, 8)
    assert torch.equal(part(x, x, x)[0], part(x, x, x)[0])
