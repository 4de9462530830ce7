"""Tests of the protocol `spectrum` and of feature extraction from views."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import ViewPipeline, views
from ssl_lib.evaluation import EvaluatedEncoder, Features, Spectrum, alignment, lidar, rankme, view_features
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
    assert scores.values["rankme"] == pytest.approx(rankme(subject.features.bank[chosen[:50].sort().values]))
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
    labels = torch.zeros(30).long()
    line = torch.arange(30.0).unsqueeze(1) * torch.ones(1, 4)
    subject.features = Features(line, labels, line, labels)
    scores = Spectrum()(subject)
    assert set(scores.values) == {"rankme", "effective_rank", "feature_std", "uniformity"}
    assert scores.details["left_out"] == {"alpha_req": "infinite: the features vary along at most one direction"}
    with pytest.raises(ValueError, match="views must be at least 2, got 1"):
        Spectrum(views=1)
