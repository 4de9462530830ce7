"""Logistic regression against scikit-learn's, and its choice of C."""

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
def test_the_regression_is_scikit_learns(c):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem()
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, 4, c, tolerance=1e-7))
    theirs = linear_model.LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weights, theirs.coef_, atol=1e-4)
    centerd = [bias - bias.mean() for bias in (biases, theirs.intercept_)]  # a common shift of the biases is free
    np.testing.assert_allclose(*centerd, atol=1e-4)
    ours, best = (objective(x.numpy(), y.numpy(), *each, c) for each in ((weights, biases), (theirs.coef_, centerd[1])))
    np.testing.assert_allclose(ours, best, rtol=1e-6)


def test_no_step_in_any_direction_makes_it_better():
    x, y = problem()
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, 4, 0.5, tolerance=1e-7))
    least = objective(x.numpy(), y.numpy(), weights, biases, 0.5)
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        moved = weights + size * rng.normal(size=weights.shape), biases + size * rng.normal(size=biases.shape)
        assert objective(x.numpy(), y.numpy(), *moved, 0.5) > least


def test_features_in_parts_give_the_same(monkeypatch):
    x, y = problem()
    whole = logistic_regression(x, y, 4, tolerance=1e-7)
    monkeypatch.setattr("ssl_lib.evaluation.logistic.part_rows", lambda *_: 7)
    for ours, theirs in zip(logistic_regression(x, y, 4, tolerance=1e-7), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_c_is_chosen_without_the_test_images():
    x, y = problem(400)
    x_test, y_test = problem(100, seed=1)
    honest = logistic_probe(x, y, x_test, y_test, 4)
    flipped = logistic_probe(x, y, x_test, y_test.flip(0), 4)
    assert honest.c == flipped.c and honest.held_out == flipped.held_out
    assert honest.held_out[honest.c] == max(honest.held_out.values())
    assert honest.accuracy == (honest.predictions == y_test).double().mean() > flipped.accuracy
    moved = logistic_probe(100 * x + 5, y, 100 * x_test + 5, y_test, 4)
    assert (moved.c, moved.accuracy) == (honest.c, honest.accuracy)


def test_wrong_arguments_are_named():
    x, y = problem(20)
    with pytest.raises(ValueError, match="c must be above 0, got 0"):
        logistic_regression(x, y, 4, 0.0)
    with pytest.raises(ValueError, match="do not fit"):
        logistic_regression(x, y[1:], 4)
