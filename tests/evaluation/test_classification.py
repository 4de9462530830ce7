"""What classifiers share: reports by class, few labels, scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib.evaluation import class_report
from ssl_lib.evaluation.classification import Standardized, share_of_labels


def test_the_report_counts_by_true_and_predicted_class():
    labels, said = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([0, 0, 1, 1, 3, 0])
    report = class_report(said, labels, 4)
    expected = np.zeros((4, 4), dtype=int)
    np.add.at(expected, (labels.numpy(), said.numpy()), 1)
    assert report["confusion"] == expected.tolist()
    assert report["class_accuracy"] == [2 / 3, 1 / 2, None, 0.0]
    assert "confusion" not in class_report(said, labels, 101)


def test_the_report_of_very_many_classes_needs_no_matrix_of_them():
    many = 1_000_000
    labels, said = torch.tensor([0, 5, 5, many - 1]), torch.tensor([0, 5, 6, many - 1])
    found = class_report(said, labels, many)["class_accuracy"]
    assert len(found) == many and {place: share for place, share in enumerate(found) if share is not None} == {
        0: 1.0,
        5: 0.5,
        many - 1: 1.0,
    }


def test_a_share_of_the_labels_is_that_of_every_class():
    labels = torch.cat([torch.zeros(200), torch.ones(50), torch.full((20,), 4)]).long()
    picks = share_of_labels(labels, 0.1, seed=0)
    assert len(picks.unique()) == len(picks) == 27
    assert labels[picks].bincount().tolist() == [20, 5, 0, 0, 2]
    assert not torch.equal(picks, share_of_labels(labels, 0.1, seed=1))
    with pytest.raises(ValueError, match=r"0.01 of the 50 labeled images of class 1 is not even one"):
        share_of_labels(labels, 0.01, seed=0)


def test_features_are_centerd_and_divided_by_their_root_mean_square_in_parts():
    x = torch.from_numpy(np.random.default_rng(0).normal(3.0, 5.0, size=(50, 4)))
    scaled = Standardized.by(x, width=2**22)  # four rows at a time
    parts = list(scaled(x))
    assert len(parts) == 13
    made = torch.cat(parts).numpy()
    centerd = x.numpy() - x.numpy().mean(0)
    np.testing.assert_allclose(made[:, :4], centerd / np.sqrt((centerd**2).mean()), rtol=1e-10)
    assert (made[:, 4] == 1).all()
