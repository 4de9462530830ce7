"""The linear probe: its gradient, its choice, its honesty."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ssl_lib.evaluation import few_labels, linear_probe
from ssl_lib.evaluation.linear import _train


def clusters(n, seed, spread=0.3, classes=4, dims=8):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dims, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    return centres[labels] + spread * torch.randn(n, dims, generator=generator), labels


def test_heads_of_all_rates_equal_torchs_own_sgd_one_by_one():
    x, y = (tensor.double() if tensor.is_floating_point() else tensor for tensor in clusters(40, 0))
    rates, steps = (0.01, 0.3), 25
    together = _train(x, y, 4, rates, steps, 1024, torch.Generator())
    for rate, head in zip(rates, together.unbind(1), strict=True):
        layer = torch.nn.Linear(8, 4).double()
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
        optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(layer(x), y).backward()
            optimizer.step()
            schedule.step()
        torch.testing.assert_close(head[:-1].T, layer.weight.detach(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(head[-1], layer.bias.detach(), rtol=1e-6, atol=1e-9)


def test_separable_features_are_learned_at_any_scale_and_offset():
    x, y = clusters(400, 0)
    x_test, y_test = clusters(200, 1)
    for scale, offset in ((1.0, 0.0), (1e4, 1e3), (1e-3, 5.0)):
        result = linear_probe(x * scale + offset, y, x_test * scale + offset, y_test, 4)
        assert result.accuracy > 0.95


def test_the_rate_is_chosen_without_the_test_images():
    x, y = clusters(200, 0, spread=1.0)
    x_test, y_test = clusters(200, 1, spread=1.0)
    honest = linear_probe(x, y, x_test, y_test, 4)
    permuted = linear_probe(x, y, x_test, y_test.flip(0), 4)
    assert honest.lr == permuted.lr and honest.held_out == permuted.held_out
    assert honest.accuracy == honest.test[honest.lr]
    assert honest.held_out[honest.lr] == max(honest.held_out.values())


def test_random_labels_give_chance():
    x, y = clusters(2000, 0)
    shuffled = y[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    x_test, y_test = clusters(2000, 1)
    assert linear_probe(x, shuffled, x_test, y_test, 4, steps=50).accuracy < 0.45


def test_the_global_generator_is_left_alone():
    x, y = clusters(100, 0)
    before = torch.get_rng_state()
    linear_probe(x, y, x, y, 4, steps=5, batch_size=16)
    few_labels(y, 3, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_few_labels_draws_as_many_of_each_class_and_differs_by_seed():
    labels = torch.arange(100) % 5
    picks = few_labels(labels, 7, seed=0)
    assert torch.equal(labels[picks].bincount(), torch.full((5,), 7))
    assert len(picks.unique()) == 35
    assert not torch.equal(picks, few_labels(labels, 7, seed=1))
    with pytest.raises(ValueError, match="class 0 has 20 labelled images, fewer than the 21"):
        few_labels(labels, 21, seed=0)


def test_bad_shapes_are_named():
    x, y = clusters(20, 0)
    with pytest.raises(ValueError, match="do not fit"):
        linear_probe(x, y[:-1], x, y, 4)
    with pytest.raises(ValueError, match="too few"):
        linear_probe(x[:4], y[:4], x, y, 4)
