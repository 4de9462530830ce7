"""ProtoNCE and the concentration of clusters against the formulas in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import InfoNCELoss, ProtoNCELoss, concentration
from ssl_lib.losses.proto_nce import other_prototypes

ASSIGNED = [torch.tensor([2, 0, 2, 5, 1]), torch.tensor([8, 3, 4, 3, 0])]
NEGATIVES = [torch.tensor([3, 4]), torch.tensor([7, 1])]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def clusterings():
    prototypes = [F.normalize(random(6, 4, seed=1)), F.normalize(random(9, 4, seed=2))]
    temperatures = [random(6, seed=3).abs() + 0.1, random(9, seed=4).abs() + 0.1]
    return prototypes, temperatures


def formula(query, prototypes, assigned, temperatures, compared):
    """Mean over the clusterings of the mean over the images of -log softmax; one list of prototypes per clustering."""
    means = []
    for c, own, phi, columns in zip(prototypes, assigned, temperatures, compared, strict=True):
        losses = []
        for q, s in zip(query.numpy(), own.tolist(), strict=True):
            if s >= 0:
                logits = {k: q @ c[k].numpy() / np.linalg.norm(q) / phi[k].item() for k in set(columns)}
                losses.append(math.log(sum(math.exp(logits[k]) for k in columns)) - logits[s])
        means.append(np.mean(losses))
    return np.mean(means)


def test_value_with_all_prototypes_equals_the_formula():
    query, (prototypes, temperatures) = random(5, 4), clusterings()
    expected = formula(query, prototypes, ASSIGNED, temperatures, [range(6), range(9)])
    value = ProtoNCELoss()(query, prototypes, ASSIGNED, temperatures)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_with_negatives_the_prototypes_of_the_batch_count_once_per_image():
    query, (prototypes, temperatures) = random(5, 4), clusterings()
    compared = [[*a.tolist(), *n.tolist()] for a, n in zip(ASSIGNED, NEGATIVES, strict=True)]
    expected = formula(query, prototypes, ASSIGNED, temperatures, compared)
    value = ProtoNCELoss()(query, prototypes, ASSIGNED, temperatures, NEGATIVES)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_images_without_a_cluster_are_left_out():
    query, (prototypes, temperatures) = random(5, 4), clusterings()
    assigned = [torch.tensor([2, -100, 2, 5, 1]), ASSIGNED[1]]
    expected = formula(query, prototypes, assigned, temperatures, [range(6), range(9)])
    assert ProtoNCELoss()(query, prototypes, assigned, temperatures).item() == pytest.approx(expected, rel=1e-12)
    nobody = ProtoNCELoss()(query, prototypes, [torch.full((5,), -100)] * 2, temperatures, NEGATIVES)
    assert nobody == 0


def test_clusters_of_one_image_each_give_info_nce():
    query, key = random(5, 4), random(5, 4, seed=1)
    prototypes, temperatures = [F.normalize(key)], [torch.full((5,), 0.2, dtype=torch.float64)]
    value = ProtoNCELoss()(query, prototypes, [torch.arange(5)], temperatures)
    torch.testing.assert_close(value, InfoNCELoss(0.2)(query, key), rtol=1e-12, atol=0)


@pytest.mark.parametrize("negatives", [None, NEGATIVES])
def test_gradient_matches_finite_differences(negatives):
    prototypes, temperatures = clusterings()
    query = random(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: ProtoNCELoss()(q, prototypes, ASSIGNED, temperatures, negatives), query)


def test_bad_inputs_raise():
    query, (prototypes, temperatures) = random(5, 4), clusterings()
    with pytest.raises(ValueError, match=r"an entry per clustering, got \[2, 1, 2, 2\]"):
        ProtoNCELoss()(query, prototypes, ASSIGNED[:1], temperatures)
    with pytest.raises(ValueError, match=r"an entry per clustering, got \[0, 0, 0, 0\]"):
        ProtoNCELoss()(query, [], [], [])
    with pytest.raises(ValueError, match=r"expected query .* got \[\(5, 4\), \(6, 4\), \(5,\), \(9,\)\]"):
        ProtoNCELoss()(query, prototypes, ASSIGNED, temperatures[::-1])


def test_concentration_equals_the_formula():
    features, centroids = random(60, 3), random(12, 3, seed=1)
    assigned = torch.randint(10, (60,), generator=torch.Generator().manual_seed(2))
    assigned[assigned == 4], assigned[0] = 5, 4  # cluster 4 has one image, 10 and 11 have none
    phi = np.zeros(12)
    for k in range(12):
        members = features[assigned == k].numpy()
        if len(members) > 1:
            distances = [math.dist(x, centroids[k].numpy()) for x in members]
            phi[k] = np.mean(distances) / math.log(len(members) + 10)
    phi[[4, 10, 11]] = phi.max()
    phi = phi.clip(*np.percentile(phi, [10, 90]))
    expected = 0.2 * phi / phi.mean()
    torch.testing.assert_close(concentration(features, centroids, assigned, 0.2).numpy(), expected, rtol=1e-12, atol=0)


def test_concentration_of_clusters_without_extent_is_the_temperature():
    same = torch.ones(5, 3)
    assert concentration(same, same[:2], torch.zeros(5, dtype=torch.int64), 0.3).tolist() == pytest.approx([0.3, 0.3])
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        concentration(same, same[:2], torch.zeros(5, dtype=torch.int64), 0.0)


def test_other_prototypes_are_not_of_the_batch():
    orders = [torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.7]), torch.rand(9)]
    first, second = other_prototypes(orders, ASSIGNED, 2)
    assert first.tolist() == [4, 3]  # 0, 1, 2 and 5 are taken
    assert not set(second.tolist()) & set(ASSIGNED[1].tolist()) and len(set(second.tolist())) == 2


def test_other_prototypes_include_the_batch_if_there_are_too_few():
    (drawn,) = other_prototypes([torch.tensor([0.5, 0.1, 0.2, 0.9])], [torch.tensor([1, 1, 2])], 3)
    assert drawn.tolist()[:2] == [0, 3] and drawn[2] in (1, 2)
    (everything,) = other_prototypes([torch.rand(4)], [torch.tensor([-100, 1])], 9)
    assert sorted(everything.tolist()) == [0, 1, 2, 3] and everything[-1] == 1
