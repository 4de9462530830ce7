"""Tests of the linear probe: optimization, selection of the learning rate and label subsets."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from ssl_lib.evaluation import EvaluatedEncoder, Features, Linear, few_labels, linear_probe
from ssl_lib.evaluation.linear import _batches, _train


def clusters(n, seed, spread=0.3, classes=4, dims=8):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, dims, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    return centers[labels] + spread * torch.randn(n, dims, generator=generator), labels


def test_heads_of_all_learning_rates_equal_torch_sgd():
    x, y = (tensor.double() if tensor.is_floating_point() else tensor for tensor in clusters(40, 0))
    rates, steps = (0.01, 0.3), 25
    padded = F.pad(x, (0, 1), value=1.0)
    together = _train(iter([(padded, y)] * steps), steps, 4, rates)
    for rate, head in zip(rates, together, strict=True):
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
        torch.testing.assert_close(head[:, :-1], layer.weight.detach(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(head[:, -1], layer.bias.detach(), rtol=1e-6, atol=1e-9)


def test_separable_features_are_learned_at_any_scale_and_offset():
    x, y = clusters(400, 0)
    x_test, y_test = clusters(200, 1)
    for scale, offset in ((1.0, 0.0), (1e4, 1e3), (1e-3, 5.0), (1e30, 0.0), (1e-30, 0.0)):
        result = linear_probe(x * scale + offset, y, x_test * scale + offset, y_test, 4)
        assert result.accuracy > 0.95


def test_learning_rate_selection_ignores_test_images():
    x, y = clusters(200, 0, spread=1.0)
    x_test, y_test = clusters(200, 1, spread=1.0)
    probe = linear_probe(x, y, x_test, y_test, 4)
    permuted = linear_probe(x, y, x_test, y_test.flip(0), 4)
    assert probe.lr == permuted.lr and probe.held_out == permuted.held_out
    assert probe.accuracy == probe.test[probe.lr]
    assert probe.held_out[probe.lr] == max(probe.held_out.values())


def test_random_labels_give_chance_accuracy():
    x, y = clusters(2000, 0)
    shuffled = y[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    x_test, y_test = clusters(2000, 1)
    assert linear_probe(x, shuffled, x_test, y_test, 4, min_steps=50).accuracy < 0.45


def test_global_generator_is_not_used():
    x, y = clusters(100, 0)
    before = torch.get_rng_state()
    linear_probe(x, y, x, y, 4, min_steps=5, epochs=1, batch_size=16)
    few_labels(y, 3, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_few_labels_draws_equal_counts_and_depends_on_seed():
    labels = torch.arange(100) % 5
    picks = few_labels(labels, 7, seed=0)
    assert torch.equal(labels[picks].bincount(), torch.full((5,), 7))
    assert len(picks.unique()) == 35
    assert not torch.equal(picks, few_labels(labels, 7, seed=1))
    with pytest.raises(ValueError, match="class 0 has 20 labeled images, fewer than the requested 21"):
        few_labels(labels, 21, seed=0)


def test_invalid_shapes_raise():
    x, y = clusters(20, 0)
    with pytest.raises(ValueError, match="do not match"):
        linear_probe(x, y[:-1], x, y, 4)
    with pytest.raises(ValueError, match="too few"):
        linear_probe(x[:4], y[:4], x, y, 4)


def test_batches_cover_large_banks_in_whole_epochs():
    batches = list(islice(_batches(torch.arange(10, 35), 6, torch.Generator().manual_seed(0)), 12))
    assert [len(batch) for batch in batches] == [6] * 12
    for epoch in range(3):
        places = torch.cat(batches[4 * epoch : 4 * epoch + 4])
        assert len(places.unique()) == 24 and places.min() >= 10 and places.max() < 35
    assert not torch.equal(batches[0], batches[4])


def test_details_contain_every_learning_rate_and_class(images):
    x, y = clusters(200, 0, spread=1.0)
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    subject.features = Features(x[:120], y[:120], x[120:], y[120:])
    scores = Linear(learning_rates=(0.01, 0.1), min_steps=50)(subject)
    (draw,) = scores.details["draws"]
    assert set(draw["held_out"]) == set(draw["test"]) == {0.01, 0.1}
    assert draw["test"][draw["lr"]] == scores.values["linear"]
    confusion = torch.tensor(scores.details["confusion"])
    assert confusion.diagonal().sum() / confusion.sum() == pytest.approx(scores.values["linear"])
    few = Linear(labels_per_class=5, draws=3)(subject)
    assert sum(map(sum, few.details["confusion"])) == 3 * 80 and "linear_std" in few.values
