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
@pytest.mark.parametrize("classes", [3, 5])
def test_logistic_regression_equals_scikit_learn(classes, c):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem(classes=classes)
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, classes, c, tolerance=1e-7))
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


@pytest.mark.parametrize("c", [1e-3, 1.0, 10.0])
def test_two_classes_equal_the_binary_objective_of_scikit_learn(c):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem(classes=2)
    weights, biases = (tensor.numpy() for tensor in logistic_regression(x, y, 2, c, tolerance=1e-7))
    theirs = linear_model.LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weights[1:] - weights[:1], theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(biases[1:] - biases[:1], theirs.intercept_, atol=1e-4)
    np.testing.assert_allclose(weights[0], -weights[1], atol=1e-6)
    probabilities = np.exp(x.numpy() @ weights.T + biases)
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(x.numpy()), atol=1e-4)
    signs = 2.0 * y.numpy() - 1
    margins = signs * (x.numpy() @ theirs.coef_[0] + theirs.intercept_)
    binary = c * np.log1p(np.exp(-margins)).sum() + 0.5 * (theirs.coef_**2).sum()
    ours = objective(x.numpy(), y.numpy(), weights, biases, c) + 0.5 * (weights**2).sum()
    np.testing.assert_allclose(ours, binary, rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_accuracy_of_the_probe_equals_scikit_learn(classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (x_test, y_test) = problem(classes=classes), problem(500, classes=classes, seed=1)
    mean = x.mean(0)
    scale = (x - mean).square().mean().sqrt()
    for c in (1e-3, 1e-2, 1.0):
        probe = logistic_probe(x, y, x_test, y_test, classes, cs=[c])
        theirs = linear_model.LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit((x - mean) / scale, y)
        # The probe stops at a gradient of 1e-4, which moves at most a few images across the border.
        assert (probe.predictions.numpy() != theirs.predict((x_test - mean) / scale)).mean() <= 0.004


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e30])
def test_probe_does_not_depend_on_the_scale_of_features(scale):
    (x, y), (x_test, y_test) = problem(), problem(100, seed=1)
    plain = logistic_probe(x.float(), y, x_test.float(), y_test, 4)
    scaled = logistic_probe((scale * x).float(), y, (scale * x_test).float(), y_test, 4)
    assert (scaled.c, scaled.accuracy) == (plain.c, plain.accuracy) and plain.accuracy > 0.6


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
    for scale in (1e12, 1e30):
        with pytest.raises(ValueError, match=r"does not converge: the features are too large, standardize them"):
            logistic_regression(scale * x.float(), y, 4)
    with pytest.raises(ValueError, match="do not match"):
        logistic_regression(x, y[1:], 4)
