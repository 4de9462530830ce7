"""Projections and singular values of features."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from ssl_lib.errors import ConfigError
from ssl_lib.report.projection import PROJECTIONS, choose_projection, principal_components, project
from ssl_lib.report.sections.features import singular_values


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (3, 2), (1, 5)])
def test_principal_components_match_the_svd(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    centered = x.double().numpy() - x.double().numpy().mean(0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    expected = (left * values)[:, :3]
    actual = principal_components(x, 3).numpy()
    assert actual.shape == (shape[0], 3)
    assert np.allclose(np.abs(actual[:, : expected.shape[1]]), np.abs(expected), atol=1e-6)
    assert (actual.max(0) >= -actual.min(0) - 1e-9).all()


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_singular_values_match_the_svd(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    expected = np.linalg.svd(x.double().numpy() - x.double().numpy().mean(0), compute_uv=False)
    actual = singular_values(x).numpy()
    assert np.allclose(actual[: len(expected)], expected / expected[0], atol=1e-7)
    assert singular_values(torch.ones(5, 3)).abs().max() == 0


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projection_separates_two_clusters(name):
    package = PROJECTIONS[name][1]
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(ConfigError, match="--map pca needs no other package"):
            choose_projection(name)
        return
    x = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    x[:30] += 8
    places = project(x, choose_projection(name))
    gap = (places[:30].mean(0) - places[30:].mean(0)).norm()
    assert places.shape == (60, 2) and gap > 2 * max(places[:30].std(0).max(), places[30:].std(0).max())


def test_unknown_projection_raises():
    with pytest.raises(ConfigError, match="unknown projection 'mds'"):
        choose_projection("mds")


@pytest.mark.parametrize("shape", [(40, 5), (6, 30)])
def test_a_second_solver_finds_the_principal_components(shape, monkeypatch):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = principal_components(x, 4)

    def fail(*_):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    torch.testing.assert_close(principal_components(x, 4), expected, rtol=1e-8, atol=1e-10)
