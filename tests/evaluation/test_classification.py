"""Tests of the classification helpers: class reports, label subsets and feature scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import class_report
from ssl_lib.evaluation.classification import Standardized, share_of_labels


def test_class_report_counts_true_and_predicted_classes():
    labels, predictions = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([0, 0, 1, 1, 3, 0])
    report = class_report(predictions, labels, 4)
    expected = np.zeros((4, 4), dtype=int)
    np.add.at(expected, (labels.numpy(), predictions.numpy()), 1)
    assert report["confusion"] == expected.tolist()
    assert report["class_accuracy"] == [2 / 3, 1 / 2, None, 0.0]
    assert "confusion" not in class_report(predictions, labels, 101)


def test_class_report_of_many_classes_allocates_no_matrix():
    many = 1_000_000
    labels, predictions = torch.tensor([0, 5, 5, many - 1]), torch.tensor([0, 5, 6, many - 1])
    accuracies = class_report(predictions, labels, many)["class_accuracy"]
    assert len(accuracies) == many
    known = {label: accuracy for label, accuracy in enumerate(accuracies) if accuracy is not None}
    assert known == {0: 1.0, 5: 0.5, many - 1: 1.0}


def test_share_of_labels_takes_the_same_fraction_of_every_class():
    labels = torch.cat([torch.zeros(200), torch.ones(50), torch.full((20,), 4)]).long()
    picks = share_of_labels(labels, 0.1, seed=0)
    assert len(picks.unique()) == len(picks) == 27
    assert labels[picks].bincount().tolist() == [20, 5, 0, 0, 2]
    assert not torch.equal(picks, share_of_labels(labels, 0.1, seed=1))
    with pytest.raises(ValueError, match=r"0.01 of the 50 labeled images of class 1 is less than one image"):
        share_of_labels(labels, 0.01, seed=0)


def test_standardized_centers_and_divides_by_root_mean_square_in_chunks():
    x = torch.from_numpy(np.random.default_rng(0).normal(3.0, 5.0, size=(50, 4)))
    scaled = Standardized.by(x, width=2**22)  # four rows at a time
    chunks = list(scaled(x))
    assert len(chunks) == 13
    result = torch.cat(chunks).numpy()
    centered = x.numpy() - x.numpy().mean(0)
    np.testing.assert_allclose(result[:, :4], centered / np.sqrt((centered**2).mean()), rtol=1e-10)
    assert (result[:, 4] == 1).all()


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-13, 1.0, 1e18, 1e36])
def test_standardized_features_do_not_depend_on_the_scale(scale):
    x = np.random.default_rng(0).normal(0.5, 1.0, size=(50, 4))
    features = torch.from_numpy(x * scale).float()
    centered = x - x.mean(0)
    (chunk,) = Standardized.by(features)(features)
    np.testing.assert_allclose(chunk[:, :4].numpy(), centered / np.sqrt((centered**2).mean()), rtol=0, atol=1e-5)


def test_equal_features_are_standardized_to_zeros():
    for value in (0.0, 0.5, 1e30):
        (chunk,) = Standardized.by(torch.full((8, 3), value))(torch.full((8, 3), value))
        assert chunk.tolist() == [[0.0, 0.0, 0.0, 1.0]] * 8


def test_mean_that_overflows_raises():
    with pytest.raises(ValueError, match=r"the mean of the features overflows torch.float32: divide them by 3e\+38"):
        Standardized.by(torch.full((8, 3), 3e38))
