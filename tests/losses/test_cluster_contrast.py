"""Cluster-level contrastive loss against its formula in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib.losses import ClusterContrastLoss


def probabilities(batch: int, clusters: int, seed: int) -> torch.Tensor:
    logits = 2 * torch.randn(batch, clusters, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(1)


def formula(p_a: np.ndarray, p_b: np.ndarray, temperature: float) -> float:
    """Equations 4 to 6 of arXiv:2009.09687, one column at a time."""
    columns = [*p_a.T, *p_b.T]
    count, terms = p_a.shape[1], []
    for i, own in enumerate(columns):
        cosines = [own @ other / np.linalg.norm(own) / np.linalg.norm(other) / temperature for other in columns]
        others = [math.exp(cosine) for j, cosine in enumerate(cosines) if j != i]
        terms.append(math.log(sum(others)) - cosines[(i + count) % (2 * count)])
    entropies = [sum(-q * math.log(q) for q in p.mean(0)) for p in (p_a, p_b)]
    return float(np.mean(terms)) + 2 * math.log(count) - sum(entropies)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize(("batch", "clusters"), [(9, 4), (3, 6), (5, 2), (4, 1)])
def test_loss_equals_the_formula(batch, clusters, temperature) -> None:
    p_a, p_b = (probabilities(batch, clusters, seed) for seed in (0, 1))
    expected = formula(p_a.numpy(), p_b.numpy(), temperature)
    assert ClusterContrastLoss(temperature)(p_a, p_b).item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_gradient_matches_finite_differences() -> None:
    views = tuple(probabilities(5, 3, seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(ClusterContrastLoss(0.5), views)


def test_uniform_probabilities_give_chance() -> None:
    p = torch.full((6, 4), 0.25, dtype=torch.float64)
    assert ClusterContrastLoss()(p, p).item() == pytest.approx(math.log(7), rel=1e-12)


def test_all_images_in_one_cluster_cost_twice_the_missing_entropy_more_than_separated_clusters() -> None:
    """Separated: a cluster's similarity with its partner is 1 and with all others 0; the entropy is log K."""
    separated, collapsed = torch.eye(4, dtype=torch.float64).repeat(3, 1), torch.zeros(12, 4, dtype=torch.float64)
    collapsed[:, 0] = 1
    loss = ClusterContrastLoss()
    assert loss(separated, separated).item() == pytest.approx(math.log(1 + 6 / math.e), rel=1e-12)
    p = collapsed.requires_grad_()
    value = loss(p, p)
    own = (2 * math.log(1 + 6 / math.e) + 6 * math.log(7)) / 8  # the empty columns have cosine 0 with all others
    assert value.item() == pytest.approx(2 * math.log(4) + own, rel=1e-12)
    value.backward()
    assert p.grad.isfinite().all()


def test_low_precision_is_computed_in_float32() -> None:
    p_a, p_b = (probabilities(6, 3, seed).bfloat16() for seed in (0, 1))
    expected = ClusterContrastLoss()(p_a.float(), p_b.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ClusterContrastLoss()(p_a, p_b), expected)
    assert expected.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClusterContrastLoss(0.0), "temperature must be positive"),
        (
            lambda: ClusterContrastLoss()(torch.ones(1, 3), torch.ones(1, 3)),
            r"at least 2 images, got p_a of .*\(1, 3\)",
        ),
        (lambda: ClusterContrastLoss()(torch.ones(4, 3), torch.ones(4, 2)), r"p_a and p_b must have the same shape"),
    ],
)
def test_wrong_arguments_raise(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
