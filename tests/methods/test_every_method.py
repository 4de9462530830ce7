"""Properties of every registered method; new methods are tested automatically."""

from __future__ import annotations

import copy

import pytest
import torch

from ssl_lib import LARS, METHODS, Method, Progress, Schedule, Trainer
from ssl_lib.memory import memories
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from tests.families import FAST

ALL = list(METHODS)
PROGRESS = Progress(step=3, total_steps=12, steps_per_epoch=3)


def first_views(loader):
    return loader.views(next(iter(loader.epoch(0))))


def ready(method, loader):
    """Runs `before_epoch`, as the trainer does before the first update."""
    pixels = (loader.data.gather(torch.arange(len(loader.data))) / 255 - 0.5) / 0.25
    method.before_epoch(Progress(0, 12, 3), lambda network: network(pixels).detach())
    return method


def copies_of(pairs):
    """Returns copies of the parameters of each teacher and its student."""
    return [
        ([p.clone() for p in teacher.parameters()], [p.detach().clone() for part in parts for p in part.parameters()])
        for teacher, parts in pairs
    ]


def test_every_family_has_a_method_in_the_fast_tests():
    assert {METHODS[name].family for name in ALL} == {METHODS[name].family for name in FAST}


@pytest.mark.parametrize("name", ALL)
def test_docstring_has_a_source(name):
    assert "arXiv:" in METHODS[name].__doc__


@pytest.mark.parametrize("name", ALL)
def test_loss_decreases_in_20_steps(name, make_method, make_loader):
    loader = make_loader(name)
    method, views = ready(make_method(name), loader), first_views(loader)
    optimizer = torch.optim.AdamW(method.param_groups(0.0), lr=3e-3)
    progress = Progress(step=30, total_steps=1000, steps_per_epoch=10)
    losses = []
    for _ in range(20):
        loss = method(views, progress).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.01 * abs(losses[0])


@pytest.mark.parametrize("name", ALL)
def test_every_trainable_parameter_gets_a_gradient(name, make_method, make_loader):
    loader = make_loader(name)
    method = ready(make_method(name), loader)
    method(first_views(loader), PROGRESS).loss.backward()
    missing = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert missing == []


@pytest.mark.parametrize("name", ALL)
def test_param_groups_hold_every_trainable_parameter_once(name, make_method):
    method = make_method(name)
    grouped = [id(p) for group in method.param_groups(0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].ema_pairs is not Method.ema_pairs])
def test_teachers_follow_the_ema_formula_once_per_update(name, make_method, make_loader):
    method, loader = make_method(name), make_loader(name)
    before = copies_of(method.ema_pairs())
    buffers = [b.clone() for t, _ in method.ema_pairs() for b in t.buffers() if b.is_floating_point()]
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
    Trainer(callbacks=[], precision="fp32", accumulate=2).fit(
        method, loader, optimizer, Schedule(epochs=1 / loader.steps_per_epoch, lr_scaling="none")
    )
    momentum = method.ema_momentum(Progress(0, 1, loader.steps_per_epoch))
    after = copies_of(method.ema_pairs())
    for (old, _), (new, student) in zip(before, after, strict=True):
        for teacher_old, teacher_new, weight in zip(old, new, student, strict=True):
            expected = momentum * teacher_old.double() + (1 - momentum) * weight.double()
            torch.testing.assert_close(teacher_new.double(), expected, rtol=1e-6, atol=1e-7)
    changed = [b for t, _ in method.ema_pairs() for b in t.buffers() if b.is_floating_point()]
    assert any(not torch.equal(a, b) for a, b in zip(buffers, changed, strict=True)), "BatchNorm did not run"


@pytest.mark.parametrize("name", ALL)
def test_checkpoint_restores_the_state_dict(name, make_method, make_loader, tmp_path):
    method, loader = make_method(name), make_loader(name)
    trainer = Trainer(callbacks=[], precision="fp32")
    state = trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.1), Schedule(epochs=1))
    save_checkpoint(tmp_path / "last.pt", state.state_dict())
    restored = make_method(name)
    restored.load_state_dict(load_checkpoint(tmp_path / "last.pt")["method"])
    for key, value in method.state_dict().items():
        assert torch.equal(value, restored.state_dict()[key]), key


@pytest.mark.parametrize("name", ALL)
def test_forward_in_eval_mode_does_not_change_the_state(name, make_method, make_loader):
    loader = make_loader(name)
    method = ready(make_method(name), loader).eval()
    twin = copy.deepcopy(method)
    method(first_views(loader), PROGRESS)
    for part in (method, twin):
        for memory in memories(part):
            memory.commit()
        part.after_update(PROGRESS)
    for key, value in method.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_loss_is_float32_and_close_to_full_precision(name, make_method, make_loader):
    views = first_views(make_loader(name))
    reference = make_method(name)(views, PROGRESS).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = make_method(name)(views, PROGRESS).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_embeddings_are_detached_with_one_row_per_image(name, make_method, make_loader):
    output = make_method(name)(first_views(make_loader(name)), PROGRESS)
    assert output.embeddings is not None and not output.embeddings.requires_grad
    assert len(output.embeddings) == 32
    assert output.loss.shape == ()


@pytest.mark.parametrize("name", ALL)
def test_backbone_without_out_dim_raises(name, make_method):
    with pytest.raises(ValueError, match="out_dim"):
        make_method(name, torch.nn.Flatten())
