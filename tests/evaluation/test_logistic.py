"""Tests of logistic regression against scikit-learn, and of the selection of C."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import logistic_probe, logistic_regression


def problem(count=240, dims=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dims))
    weights = np.random.default_rng(9).normal(size=(dims, classes))
    return torch.from_numpy(x), torch.from_numpy((x @ weights + rng.normal(size=(count, classes))).argmax(1))


def objective(x, y, weights, biases, c):
    logits = x @ weights.T + biases
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return c * losses.sum() + 0.5 * (weights**2).sum()


@pytest.mark.parametrize("c", [1e-3, 1.0, 10.0])
def test_logistic_regression_equals_scikit_learn(c):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem()
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, 4, c, tolerance=1e-7))
    theirs = linear_model.LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weights, theirs.coef_, atol=1e-4)
    centered = [
        bias - bias.mean() for bias in (biases, theirs.intercept_)
    ]  # a common shift of the biases does not change the loss
    np.testing.assert_allclose(*centered, atol=1e-4)
    ours, best = (
        objective(x.numpy(), y.numpy(), *each, c) for each in ((weights, biases), (theirs.coef_, centered[1]))
    )
    np.testing.assert_allclose(ours, best, rtol=1e-6)


def test_solution_is_a_minimum_of_the_objective():
    x, y = problem()
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, 4, 0.5, tolerance=1e-7))
    least = objective(x.numpy(), y.numpy(), weights, biases, 0.5)
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        moved = weights + size * rng.normal(size=weights.shape), biases + size * rng.normal(size=biases.shape)
        assert objective(x.numpy(), y.numpy(), *moved, 0.5) > least


def test_features_in_chunks_give_the_same_solution(monkeypatch):
    x, y = problem()
    whole = logistic_regression(x, y, 4, tolerance=1e-7)
    monkeypatch.setattr("ssl_lib.evaluation.logistic.part_rows", lambda *_: 7)
    for ours, theirs in zip(logistic_regression(x, y, 4, tolerance=1e-7), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_selection_of_c_ignores_test_images():
    x, y = problem(400)
    x_test, y_test = problem(100, seed=1)
    probe = logistic_probe(x, y, x_test, y_test, 4)
    flipped = logistic_probe(x, y, x_test, y_test.flip(0), 4)
    assert probe.c == flipped.c and probe.held_out == flipped.held_out
    assert probe.held_out[probe.c] == max(probe.held_out.values())
    assert probe.accuracy == (probe.predictions == y_test).double().mean() > flipped.accuracy
    moved = logistic_probe(100 * x + 5, y, 100 * x_test + 5, y_test, 4)
    assert (moved.c, moved.accuracy) == (probe.c, probe.accuracy)


def test_invalid_arguments_raise():
    x, y = problem(20)
    with pytest.raises(ValueError, match="c must be above 0, got 0"):
        logistic_regression(x, y, 4, 0.0)
    with pytest.raises(ValueError, match="do not match"):
        logistic_regression(x, y[1:], 4)
