"""Tests of the protocol `spectrum` and of feature extraction from views."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import Evaluator, ViewPipeline, views
from ssl_lib.data import ArrayData
from ssl_lib.evaluation import KNN, EvaluatedEncoder, Spectrum, alignment, lidar, rankme, view_features, write_results
from ssl_lib.runs.results import Evaluation, read_results
from tests.conftest import TinyBackbone, small_views


def test_protocol_metrics_equal_the_functions(images):
    torch.manual_seed(0)
    encoder = TinyBackbone().train()
    pipeline = ViewPipeline(small_views("dino"), images.mean, images.std)
    subject = EvaluatedEncoder("trained", encoder, images, images, views=pipeline)
    protocol = Spectrum(images=50, view_images=20, views=4)
    scores = protocol(subject)
    assert list(scores.values) == [measure.key for measure in protocol.measures]
    assert scores.details == {"images": 50, "dim": 16, "view_images": 20, "views": 4}
    chosen = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    assert scores.values["rankme"] == pytest.approx(rankme(subject.bank_features[chosen[:50].sort().values]))
    features = view_features(encoder, images, pipeline, 4, indices=chosen[:20].sort().values)
    assert scores.values["lidar"] == pytest.approx(lidar(features))
    assert scores.values["alignment"] == pytest.approx(alignment(features[:, 0], features[:, 1]))
    assert encoder.training


def test_views_depend_only_on_image_and_seed(images):
    pipeline = ViewPipeline([views.ViewConfig(size=16, blur_kernel=3, grayscale_p=0, jitter_p=0)], (0.5,), (0.25,))
    encoder = torch.nn.Flatten()
    some = view_features(encoder, images, pipeline, 3, indices=torch.tensor([5, 7]))
    assert some.shape == (2, 3, 256) and not torch.equal(some[0, 0], some[0, 1])
    alone = view_features(encoder, images, pipeline, 3, indices=torch.tensor([7]), batch_size=1)
    assert torch.equal(alone[0], some[1])
    assert not torch.equal(view_features(encoder, images, pipeline, 3, indices=torch.tensor([7]), seed=1)[0], some[1])


def test_metrics_of_views_and_infinite_alpha_req_are_left_out(images):
    subject = EvaluatedEncoder("trained", torch.nn.Identity(), images, images)
    subject.bank_features = torch.arange(30.0).unsqueeze(1) * torch.ones(1, 4)
    scores = Spectrum()(subject)
    assert set(scores.values) == {"rankme", "effective_rank", "feature_std", "uniformity"}
    assert scores.details["left_out"] == {"alpha_req": "infinite: the features vary along at most one direction"}
    with pytest.raises(ValueError, match="views must be at least 2, got 1"):
        Spectrum(views=1)


@pytest.mark.parametrize("limit", [None, 30])
def test_images_without_labels_have_the_results_of_the_same_images_with_labels(images, limit, tmp_path):
    torch.manual_seed(0)
    encoder, random = TinyBackbone(), TinyBackbone()
    unlabeled = ArrayData(images.gather(torch.arange(96)), mean=images.mean, std=images.std)
    pipeline = ViewPipeline(small_views("dino"), images.mean, images.std)
    arguments = {"random_encoder": random, "views": pipeline, "limit": limit}
    protocol = Spectrum(view_images=20, views=3)
    expected = Evaluator(images, images, [protocol], **arguments)(encoder)
    for queries in (None, unlabeled, images):
        evaluator = Evaluator(unlabeled, queries, [protocol], **arguments)
        assert evaluator(encoder) == expected
        assert evaluator.settings["images"]["bank"] == (limit or 96) and evaluator.settings["images"]["queries"] == 0
    write_results(tmp_path / "evaluation.json", evaluator, expected, steps=3)
    content, results = read_results(tmp_path / "evaluation.json")
    assert results == expected and Evaluation.of(content, results).queries == 0


def test_centered_features_are_those_of_both_sets_minus_the_mean_of_the_bank(images):
    subject = EvaluatedEncoder("raw pixels", torch.nn.Flatten(), images, images, torch.arange(40), torch.arange(40, 60))
    plain = EvaluatedEncoder("raw pixels", torch.nn.Flatten(), images, images)
    subject.center = True
    every = plain.bank_features.double()
    centered = every - every[:40].mean(0)
    torch.testing.assert_close(subject.bank_features.double(), centered[:40], rtol=0, atol=1e-5)
    torch.testing.assert_close(subject.features.bank.double(), centered[:40], rtol=0, atol=1e-5)
    torch.testing.assert_close(subject.features.queries.double(), centered[40:60], rtol=0, atol=1e-5)


def test_protocols_that_need_labels_are_named(images):
    unlabeled = ArrayData(images.gather(torch.arange(96)), mean=images.mean, std=images.std)
    for bank, queries in ((unlabeled, None), (images, None), (images, unlabeled), (unlabeled, images)):
        with pytest.raises(ValueError, match=r"^knn needs labels for the training images"):
            Evaluator(bank, queries, [Spectrum(), KNN(k=5)], random_encoder=TinyBackbone())
    with pytest.raises(ValueError, match="spectrum needs at least two training images, got 1"):
        Evaluator(unlabeled, None, [Spectrum()], random_encoder=TinyBackbone(), limit=1)
