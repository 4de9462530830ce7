"""DINO loss compared with its formula in numpy, and the update of its center."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import DINOLoss


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def formula(student: list[Tensor], teacher: list[Tensor], center: Tensor, t_student: float, t_teacher: float) -> float:
    """Mean cross-entropy over pairs of different views."""
    terms = []
    for i, t in enumerate(teacher):
        for j, s in enumerate(student):
            if i != j:
                p = softmax((t.numpy() - center.numpy()) / t_teacher)
                log_q = np.log(softmax(s.detach().numpy() / t_student))
                terms.append(-(p * log_q).sum(-1).mean())
    return float(np.mean(terms))


def logits(views: int, batch: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 6, dtype=torch.float64, generator=generator) for _ in range(views)]


@pytest.mark.parametrize(("num_teacher", "num_student"), [(1, 2), (1, 4), (2, 2), (2, 6), (3, 3), (3, 5)])
def test_loss_equals_the_formula(num_teacher: int, num_student: int) -> None:
    loss = DINOLoss(6, student_temperature=0.3).double()
    loss.center.copy_(torch.linspace(-1, 1, 6))
    student, teacher = logits(num_student), logits(num_teacher, seed=1)
    expected = formula(student, teacher, loss.center, 0.3, 0.07)
    assert loss(student, teacher, 0.07).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_reaches_only_the_student() -> None:
    loss, teacher = DINOLoss(6), [x.requires_grad_() for x in logits(2, batch=2, seed=1)]
    student = tuple(x.requires_grad_() for x in logits(3, batch=2))
    assert torch.autograd.gradcheck(lambda *views: loss(views, teacher, 0.5), student)
    loss(student, teacher, 0.5).backward()
    assert all(view.grad is None for view in teacher)
    assert all((view.grad != 0).all() for view in student)


def test_extreme_logits_give_finite_loss_and_gradient() -> None:
    student = [(1e4 * x).float().requires_grad_() for x in logits(3)]
    value = DINOLoss(6)(student, [(1e4 * x).float() for x in logits(2)], 0.04)
    value.backward()
    assert value.isfinite() and all(view.grad.isfinite().all() for view in student)


def test_center_changes_once_per_commit() -> None:
    loss = DINOLoss(6, center_momentum=0.7).double()
    expected = np.zeros((1, 6))
    for update in range(3):
        micro_batches = [logits(2, batch, seed=10 * update + batch) for batch in (3, 5)]
        for teacher in micro_batches:
            loss(teacher, teacher, 0.04)
            np.testing.assert_array_equal(loss.center.numpy(), expected, err_msg="changed before commit")
        rows = np.concatenate([view.numpy() for teacher in micro_batches for view in teacher])  # (2 * (3 + 5), 6)
        expected = 0.7 * expected + 0.3 * rows.mean(0, keepdims=True)
        loss.commit()
        np.testing.assert_allclose(loss.center.numpy(), expected, rtol=1e-12)
        expected = loss.center.numpy().copy()
        loss.commit()
        np.testing.assert_array_equal(loss.center.numpy(), expected, err_msg="changed twice")


def test_forward_uses_the_center_before_the_update() -> None:
    loss, (student, teacher) = DINOLoss(6).double(), (logits(3), logits(2, seed=1))
    first = loss(student, teacher, 0.1)
    loss.commit()
    assert first.item() == pytest.approx(formula(student, teacher, torch.zeros(1, 6), 0.1, 0.1), rel=1e-12)
    second = loss(student, teacher, 0.1)
    assert second.item() == pytest.approx(formula(student, teacher, loss.center, 0.1, 0.1), rel=1e-12)
    assert first != second


def test_eval_mode_does_not_accumulate_for_the_center() -> None:
    loss = DINOLoss(6).eval()
    loss(logits(3), logits(2), 0.04)
    loss.commit()
    assert (loss.center == 0).all()


def test_discarded_batches_do_not_change_the_center() -> None:
    loss, twin = DINOLoss(6), DINOLoss(6)
    loss(logits(2), [x * float("nan") for x in logits(2)], 0.04)
    loss.rollback()
    for module in (loss, twin):
        module(logits(2, seed=5), logits(2, seed=5), 0.04)
        module.commit()
    assert torch.equal(loss.center, twin.center) and (loss.center != 0).all()


def test_commit_without_batches_does_nothing() -> None:
    loss = DINOLoss(6)
    loss.center.fill_(3)
    loss.commit()
    assert (loss.center == 3).all()


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, 0.0), (0.0, 2.0)])
def test_center_momentum_one_keeps_and_zero_replaces_the_center(momentum: float, expected: float) -> None:
    loss = DINOLoss(6, center_momentum=momentum)
    loss([torch.full((3, 6), 2.0)] * 2, [torch.full((3, 6), 2.0)] * 2, 0.04)
    loss.commit()
    assert (loss.center == expected).all()


def test_state_dict_is_the_center_and_can_be_copied() -> None:
    loss = DINOLoss(6)
    loss(logits(2), logits(2), 0.04)
    twin = copy.deepcopy(loss)
    loss.commit()
    assert (twin.center == 0).all()
    assert list(loss.state_dict()) == ["center"] and loss.center.shape == (1, 6)
    twin.load_state_dict(loss.state_dict())
    assert torch.equal(twin.center, loss.center)


X = torch.zeros(3, 6)


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "message"),
    [
        ([X], [X], 0.04, "got 1 student and 1 teacher views"),
        ([X, X], [], 0.04, "got 2 student and 0 teacher views"),
        ([X, X], [X, X, X], 0.04, "got 2 student and 3 teacher views"),
        ([X, X], [X, X], 0.0, "teacher_temperature must be positive and finite, got 0.0"),
        ([X, X], [X, X], float("nan"), "teacher_temperature must be positive and finite, got nan"),
        ([X, X[:2]], [X, X], 0.04, r"student\[1\].*\(2, 6\)"),
        ([X, X], [X, X[:2]], 0.04, r"teacher\[1\].*\(2, 6\)"),
        ([X[:, :5]] * 2, [X, X], 0.04, r"student\[0\] must have shape \(N, 6\).*\(3, 5\)"),
        ([X[:0]] * 2, [X[:0]] * 2, 0.04, r"N >= 1, got \(0, 6\)"),
        ([X, X[0]], [X, X], 0.04, r"student\[1\] must have shape \(N, 6\).*\(6,\)"),
        (X, X, 0.04, r"student\[0\] must have shape \(N, 6\) and a float dtype"),
    ],
)
def test_bad_views_or_temperature_raise(student, teacher, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOLoss(6)(student, teacher, temperature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_prototypes": 0}, "num_prototypes must be positive and finite, got 0"),
        ({"student_temperature": -0.1}, "student_temperature must be positive and finite, got -0.1"),
        ({"student_temperature": float("nan")}, "student_temperature"),
        ({"center_momentum": 1.1}, r"center_momentum must be in \[0, 1\], got 1.1"),
        ({"center_momentum": float("nan")}, "center_momentum"),
    ],
)
def test_bad_constructor_arguments_raise(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOLoss(**{"num_prototypes": 6, **arguments})
