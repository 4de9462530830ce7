"""Tests of alignment, uniformity and prototype metrics against their formulas in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import (
    alignment,
    assignment_entropy,
    feature_std,
    prototype_entropy,
    prototype_usage,
    uniformity,
    view_distance,
)


def pair(rows=40, dims=6, noise=0.3):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, dims)) + 0.5
    return x, x + noise * generator.normal(size=x.shape)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_alignment_equals_mean_squared_distance_of_unit_vectors():
    x, y = pair()
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(unit(x), unit(y), strict=True)])
    assert alignment(*tensors(x, y)) == pytest.approx(expected, rel=1e-12)
    assert alignment(*tensors(x, 7 * x)) == pytest.approx(0, abs=1e-15)
    assert alignment(*tensors(x, -x)) == pytest.approx(4)


def test_uniformity_equals_formula_over_all_pairs():
    x, _ = pair()
    u = unit(x)
    squares = [np.sum((u[i] - u[j]) ** 2) for i in range(len(u)) for j in range(i)]
    expected = math.log(np.mean(np.exp(-2 * np.array(squares))))
    assert uniformity(*tensors(x)) == pytest.approx(expected, rel=1e-12)


def test_uniformity_in_blocks_equals_pdist():
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))  # two blocks of rows
    u = torch.nn.functional.normalize(x.double(), dim=1)
    assert uniformity(x) == pytest.approx(torch.pdist(u).square().mul(-2).exp().mean().log().item(), rel=1e-9)


def test_uniformity_is_zero_for_a_point_and_minus_four_on_a_sphere():
    assert uniformity(torch.ones(8, 4)) == pytest.approx(0, abs=1e-12)
    x = torch.randn(2000, 512, generator=torch.Generator().manual_seed(0))
    assert uniformity(x) == pytest.approx(-4, abs=0.02)


def test_feature_std_is_one_over_sqrt_d_for_a_gaussian_and_zero_for_a_point():
    x, _ = pair()
    assert feature_std(*tensors(x)) == pytest.approx(unit(x).std(0).mean(), rel=1e-12)
    gaussian = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_std(gaussian) == pytest.approx(1 / 8, rel=1e-2)
    assert feature_std(torch.full((10, 64), 3.0)) == pytest.approx(0, abs=1e-12)


def test_view_distance_is_relative_to_distance_between_images():
    x, y = pair()
    u, v = unit(x), unit(y)
    same = np.mean([np.sum((u[i] - v[i]) ** 2) for i in range(len(u))])
    other = np.mean([np.sum((u[i] - v[j]) ** 2) for i in range(len(u)) for j in range(len(u)) if i != j])
    assert view_distance(*tensors(x, y)) == pytest.approx(same / other, rel=1e-12)
    assert view_distance(*tensors(x, x)) == pytest.approx(0, abs=1e-15)
    unrelated = torch.randn(2, 2000, 16, generator=torch.Generator().manual_seed(0))
    assert view_distance(*unrelated) == pytest.approx(1, abs=0.02)
    assert view_distance(torch.ones(8, 4), torch.ones(8, 4)) == 0, "collapsed"


def test_prototype_metrics_equal_numpy():
    scores = np.random.default_rng(0).normal(size=(30, 7)) * 2
    rows = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    mean = rows.mean(0)
    (x,) = tensors(rows)
    assert prototype_usage(x) == len(set(rows.argmax(1))) / 7
    assert prototype_entropy(x) == pytest.approx(-(mean * np.log(mean)).sum() / np.log(7), rel=1e-12)
    assert assignment_entropy(x) == pytest.approx(-(rows * np.log(rows)).sum(1).mean() / np.log(7), rel=1e-12)


def test_prototype_metrics_at_their_extremes():
    one = torch.zeros(6, 8)
    one[:, 2] = 1.0
    assert (prototype_usage(one), prototype_entropy(one), assignment_entropy(one)) == (1 / 6, 0, 0)
    distinct = torch.eye(8)
    assert prototype_usage(distinct) == 1 and assignment_entropy(distinct) == 0
    assert prototype_entropy(distinct) == pytest.approx(1)
    assert assignment_entropy(torch.full((6, 8), 1 / 8)) == pytest.approx(1)


@pytest.mark.parametrize("metric", [uniformity, feature_std, prototype_usage, prototype_entropy, assignment_entropy])
@pytest.mark.parametrize("bad", [torch.randn(4), torch.ones(4, 4).long(), torch.randn(0, 4)])
def test_invalid_input_raises(metric, bad):
    with pytest.raises(ValueError, match="must be floats"):
        metric(bad)


@pytest.mark.parametrize("metric", [alignment, view_distance])
def test_views_of_different_shapes_raise(metric):
    with pytest.raises(ValueError, match="the same shape"):
        metric(torch.randn(4, 3), torch.randn(5, 3))


@pytest.mark.parametrize("metric", [uniformity, lambda x: view_distance(x, x)])
def test_single_image_raises(metric):
    with pytest.raises(ValueError, match="two rows"):
        metric(torch.randn(1, 4))
