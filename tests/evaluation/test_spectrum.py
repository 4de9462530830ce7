"""Tests of the spectral metrics against their formulas in float64 numpy and on simple features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import alpha_req, effective_rank, explained_variance, lidar, rankme

SHAPES = [(200, 16), (16, 200), (64, 64)]


def features(rows, dims, seed=0):
    """Features with a nonzero mean and directions of very different variance."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, dims)) * np.geomspace(1, 1e-3, dims) + generator.normal(size=dims)


def exp_entropy(values, eps):
    p = values / values.sum() + eps
    return np.exp(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("shape", SHAPES)
def test_rankme_equals_formula_of_the_paper(shape):
    x = features(*shape)
    expected = exp_entropy(np.linalg.svd(x, compute_uv=False), 1e-7)
    assert rankme(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_effective_rank_equals_entropy_of_covariance_eigenvalues(shape):
    x = features(*shape)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False))
    values = values[values > 1e-14]
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(exp_entropy(values, 0.0), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_explained_variance_equals_normalized_squared_singular_values(shape):
    x = features(*shape)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    fractions = explained_variance(torch.from_numpy(x))
    assert fractions.numpy() == pytest.approx(values / values.sum(), rel=1e-9, abs=1e-14)
    assert fractions.sum().item() == pytest.approx(1)
    assert not explained_variance(torch.ones(shape)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_alpha_req_equals_least_squares_slope(shape):
    x = features(*shape)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1]
    values = values[values > 1e-10 * values[0]]
    slope, _ = np.polyfit(np.log(np.arange(1, len(values) + 1)), np.log(values), 1)
    assert alpha_req(torch.from_numpy(x)) == pytest.approx(-slope, rel=1e-6)


@pytest.mark.parametrize("shape", [(40, 5, 12), (10, 3, 32)])
def test_lidar_equals_formula_of_the_paper(shape):
    objects, views, dim = shape
    generator = np.random.default_rng(1)
    x = generator.normal(size=(objects, 1, dim)) * np.geomspace(1, 0.1, dim) + 0.3 * generator.normal(size=shape)
    means = x.mean(1)
    between = np.cov(means, rowvar=False)
    within = sum((group - group.mean(0)).T @ (group - group.mean(0)) for group in x) / (objects * (views - 1))
    sizes, directions = np.linalg.eigh(within + 1e-4 * np.eye(dim))
    root = directions @ np.diag(sizes**-0.5) @ directions.T
    values = np.linalg.eigvalsh(root @ between @ root).clip(0)
    assert lidar(torch.from_numpy(x)) == pytest.approx(exp_entropy(values, 1e-7), rel=1e-8)


def test_isotropic_features_use_all_dimensions_and_have_a_flat_spectrum():
    x = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert rankme(x) == pytest.approx(16, rel=1e-3)
    assert effective_rank(x) == pytest.approx(16, rel=1e-3)
    assert alpha_req(x) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_rank_equals_number_of_equal_directions(rank):
    basis = torch.linalg.qr(torch.randn(32, rank, dtype=torch.float64))[0]
    x = torch.randn(5000, rank, dtype=torch.float64) @ basis.T
    for metric in (rankme, effective_rank):
        assert metric(x) == pytest.approx(rank, rel=0.01)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
def test_constant_features_have_rank_one(value):
    x = torch.full((50, 32), value)
    assert rankme(x) == pytest.approx(1, abs=1e-3)
    assert effective_rank(x) == 1
    assert lidar(x.view(10, 5, 32)) == 1
    assert alpha_req(x) == math.inf


def test_effective_rank_ignores_the_mean_and_rankme_counts_it():
    x = torch.randn(500, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert effective_rank(x + 100) == pytest.approx(effective_rank(x), rel=1e-9)
    assert rankme(x + 100) < 2 < 7 < rankme(x)


def test_alpha_req_recovers_power_law_exponent():
    basis = torch.linalg.qr(torch.randn(400, 30, dtype=torch.float64))[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0]  # centered, orthogonal columns
    for alpha in (0.5, 1.0, 2.0):
        x = basis * torch.arange(1, 31, dtype=torch.float64) ** (-alpha / 2)
        assert alpha_req(x) == pytest.approx(alpha, rel=1e-9)


def test_lidar_counts_only_directions_that_separate_objects():
    """Views differ in all but two of ten directions: LiDAR counts these two, RankMe counts all."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 20, 10, generator=generator)
    x[:, :, :2] = 5 * torch.randn(500, 1, 2, generator=generator) + 0.1 * x[:, :, :2]
    assert lidar(x) == pytest.approx(2, abs=0.1)
    assert rankme(x.flatten(0, 1)) > 5


@pytest.mark.parametrize("metric", [rankme, effective_rank, alpha_req])
@pytest.mark.parametrize("bad", [torch.randn(4), torch.randn(2, 3, 4), torch.ones(4, 4).long(), torch.randn(0, 4)])
def test_invalid_features_raise(metric, bad):
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        metric(bad)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (4, 1, 4), (4, 4, 0)])
def test_lidar_with_too_few_objects_or_views_raises(shape):
    with pytest.raises(ValueError, match="objects, views, D"):
        lidar(torch.randn(shape))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_metrics_without_an_epsilon_do_not_depend_on_the_scale(scale):
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    for metric in (rankme, effective_rank, alpha_req):
        assert metric(scale * x) == pytest.approx(metric(x), rel=1e-5)


FAILING = {"eigvalsh": (effective_rank, explained_variance, alpha_req), "svdvals": (rankme, lidar)}


@pytest.mark.parametrize("result", ["error", "nan"])
@pytest.mark.parametrize(("solver", "metric"), [(name, each) for name, metrics in FAILING.items() for each in metrics])
def test_second_solver_is_used_if_the_first_one_fails(solver, metric, result, monkeypatch):
    """No finite matrix is known for which LAPACK fails, so the failure is simulated."""
    x = torch.from_numpy(features(60, 5)).view((12, 5, 5) if metric is lidar else (60, 5))
    expected = torch.as_tensor(metric(x))

    def fail(values):
        if result == "error":
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return torch.full_like(values[0], math.nan)

    monkeypatch.setattr(f"torch.linalg.{solver}", fail)
    torch.testing.assert_close(torch.as_tensor(metric(x)), expected, rtol=1e-6, atol=1e-12)
    for name in FAILING:
        monkeypatch.setattr(f"torch.linalg.{name}", fail)
    with pytest.raises(ValueError, match="no eigenvalue solver converges for these features"):
        metric(x)


def test_half_precision_features_are_computed_in_float64():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert rankme(x) == rankme(x.double())
    assert effective_rank(x) == effective_rank(x.double())
