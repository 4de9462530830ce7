"""SupCon loss compared with its formula, with NT-Xent, and on known cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import NTXentLoss, SupConLoss


def views(count: int = 6, number: int = 2, dim: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, number, dim, dtype=torch.float64, generator=generator)


def formula(features: Tensor, positives: np.ndarray, temperature: float, anchors: int) -> float:
    """Equation 2 of the paper, anchor by anchor; positives[i, j] is the weight of image j for image i."""
    z = features.numpy() / np.linalg.norm(features.numpy(), axis=2, keepdims=True)
    places = [(i, v) for i in range(len(z)) for v in range(z.shape[1])]
    terms = []
    for i, v in places:
        if v >= anchors:
            continue
        others = [place for place in places if place != (i, v)]
        scores = {place: float(z[i, v] @ z[place]) / temperature for place in others}
        total = math.log(sum(map(math.exp, scores.values())))
        weights = {place: positives[i, place[0]] for place in others}
        mass = sum(weights.values())
        terms.append(-sum(weights[p] * (scores[p] - total) for p in others) / mass if mass else 0.0)
    return float(np.mean(terms))


@pytest.mark.parametrize("mode", ["all", "one"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_equals_the_formula(mode, number, temperature):
    features, labels = views(number=number), torch.tensor([0, 1, 1, 2, 1, 0])
    expected = formula(
        features, (labels[:, None] == labels).double().numpy(), temperature, number if mode == "all" else 1
    )
    loss = SupConLoss(temperature, contrast_mode=mode)(features, labels)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_mask_can_be_asymmetric_and_weighted():
    features = views(3)
    mask = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    loss = SupConLoss(0.3)(features, mask=mask)
    assert loss.item() == pytest.approx(formula(features, mask.numpy(), 0.3, 2), rel=1e-12)


def test_mask_of_equal_labels_gives_the_loss_of_the_labels():
    features, labels = views(), torch.tensor([0, 1, 1, 2, 1, 0])
    assert SupConLoss()(features, mask=labels[:, None] == labels) == SupConLoss()(features, labels)


@pytest.mark.parametrize("labels", [None, torch.tensor([3, 1, 4, 0, 5, 9])])
def test_loss_without_shared_labels_is_nt_xent(labels):
    features = views()
    expected = NTXentLoss(0.2)(*features.unbind(1))
    assert SupConLoss(0.2)(features, labels).item() == pytest.approx(expected.item(), rel=1e-12)


def test_base_temperature_scales_the_loss():
    features, labels = views(), torch.tensor([0, 1, 1, 2, 1, 0])
    ratio = SupConLoss(0.1, base_temperature=0.07)(features, labels) / SupConLoss(0.1)(features, labels)
    assert ratio.item() == pytest.approx(0.1 / 0.07, rel=1e-12)


def test_loss_of_uninformative_and_perfect_embeddings():
    labels = torch.tensor([0, 0, 1, 1])
    assert SupConLoss()(torch.zeros(4, 2, 3), labels).item() == pytest.approx(math.log(7))
    perfect = torch.eye(2, dtype=torch.float64)[labels][:, None].expand(4, 2, 2)
    expected = math.log(3 + 4 * math.exp(-10))  # three positives, four negatives at a cosine of 0
    assert SupConLoss(0.1)(perfect, labels).item() == pytest.approx(expected, rel=1e-12)


def test_anchors_without_positives_count_as_zero():
    features, labels = views(4, number=1), torch.tensor([0, 1, 1, 2])
    alone = SupConLoss()(features, torch.arange(4))
    assert alone == 0
    pair = formula(features, (labels[:, None] == labels).double().numpy(), 0.1, 1)
    assert SupConLoss()(features, labels).item() == pytest.approx(pair, rel=1e-12)


@pytest.mark.parametrize("mode", ["all", "one"])
def test_gradient_matches_finite_differences(mode):
    features, labels = views(4).requires_grad_(), torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: SupConLoss(0.5, contrast_mode=mode)(x, labels), features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"base_temperature": -1.0}, "base_temperature must be positive and finite, got -1.0"),
        ({"contrast_mode": "two"}, "contrast_mode must be 'all' or 'one', got 'two'"),
    ],
)
def test_bad_constructor_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        SupConLoss(**arguments)


@pytest.mark.parametrize(
    ("features", "others", "message"),
    [
        (torch.ones(4, 3), {}, r"shape \(N, V, D\), got torch.float32 of shape \(4, 3\)"),
        (torch.ones(4, 2, 3, dtype=torch.int64), {}, "float tensor .* got torch.int64"),
        (torch.ones(4, 2, 3), {"labels": torch.zeros(8)}, r"labels must have shape \(4,\), got \(8,\)"),
        (torch.ones(4, 2, 3), {"mask": torch.ones(4, 8)}, r"mask must have shape \(4, 4\), got \(4, 8\)"),
        (torch.ones(4, 2, 3), {"labels": torch.zeros(4), "mask": torch.ones(4, 4)}, "labels or mask, not both"),
        (torch.ones(1, 1, 3), {}, r"at least 2 views, got features of shape \(1, 1, 3\)"),
    ],
)
def test_bad_inputs_raise(features, others, message):
    with pytest.raises(ValueError, match=message):
        SupConLoss()(features, **others)
