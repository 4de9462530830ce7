"""SeLa, DeepCluster, ClusterFit and Contrastive Clustering: labels, schedules, weights, frozen networks, heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_lib import Loader, Progress, Schedule, Trainer, ViewPipeline, Views
from ssl_lib.backbones import Frozen
from ssl_lib.losses import ClusterContrastLoss, NTXentLoss
from ssl_lib.methods import ClusterFit, ContrastiveClustering, DeepCluster, SeLa
from tests.conftest import TinyBackbone, small_views

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


class Identity(nn.Module):
    """Features that are the pixels (N, 1, 1, 6)."""

    out_dim = 6

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * images.flatten(1)


def groups(count=40, kinds=4, seed=0):
    """Images (N, 1, 1, 6) of a few kinds, and the kinds; kind k has about twice as many images as kind k + 1."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.tensor([0.5**kind for kind in range(kinds)]).multinomial(count, True, generator=generator)
    noise = 0.01 * torch.randn(count, 6, generator=generator)
    return (3 * torch.eye(kinds, 6)[truth] + noise + 0.1)[:, None, None], truth


def one_to_one(a, b):
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def encode_with(pixels):
    return lambda network: network(pixels).detach()


def views_of(pixels, indices):
    return Views((pixels[indices],), indices=indices)


def make_sela(**arguments):
    torch.manual_seed(0)
    return SeLa(Identity(), **{"num_images": 60, "num_clusters": 5, "heads": 3, **arguments})


def test_sela_labels_fill_all_clusters_alike_and_differ_between_heads():
    method = make_sela()
    pixels = torch.randn(60, 1, 1, 6)
    method.before_epoch(START, encode_with(pixels))
    for labels in method.labels:
        assert labels.bincount(minlength=5).sub(12).abs().max() <= 1
    assert not torch.equal(method.labels[0], method.labels[1])
    logits = method.classifier(method.backbone(pixels)).unflatten(1, (3, 5))
    chosen = logits.gather(2, method.labels.T[..., None]).mean()
    assert chosen > logits.mean() + 0.3 * logits.std()


def test_sela_leaves_the_labels_of_images_without_features():
    method, pixels = make_sela(), torch.randn(60, 1, 1, 6)
    pixels[::2] = 0
    before = method.labels.clone()
    method.before_epoch(START, encode_with(pixels))
    assert torch.equal(method.labels[:, ::2], before[:, ::2])
    assert method.labels[0, 1::2].bincount(minlength=5).tolist() == [6] * 5


@pytest.mark.parametrize(("epochs", "times"), [(20, 7), (20, 1), (3, 100), (12, 12)])
def test_sela_changes_labels_in_the_epochs_of_its_schedule(epochs, times):
    """Time i of n is at the fraction (i / n)^2 of the run."""
    expected = {math.floor(epochs * (i / times) ** 2 + 1e-9) for i in range(times)}
    method, changed = make_sela(reassignments=times), set()

    def encode(network):
        changed.add(progress.epoch)
        return torch.randn(60, 6)

    for epoch in range(epochs):
        progress = Progress(4 * epoch, 4 * epochs, 4)
        method.before_epoch(progress, encode)
    assert changed == expected and 0 in changed


def test_sela_loss_is_the_mean_over_heads_and_views():
    method, pixels = make_sela(), torch.randn(60, 1, 1, 6)
    indices, other = torch.tensor([3, 8, 50, 21]), torch.randn(4, 1, 1, 6)
    output = method(Views((pixels[indices], other), indices=indices), START)
    terms = []
    for view in (pixels[indices], other):
        logits = method.classifier(method.backbone(view)).detach().double().numpy()
        for head in range(3):
            own = logits[:, 5 * head : 5 * head + 5]
            logs = own - np.log(np.exp(own).sum(1, keepdims=True))
            terms += [-logs[row, method.labels[head, index]] for row, index in enumerate(indices)]
    assert output.loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert torch.equal(output.embeddings_b, other.flatten(1))


@pytest.mark.parametrize("wrong", [{"sharpness": 0.0}, {"heads": 0}, {"reassignments": 0}])
def test_sela_refuses_values_out_of_range(wrong):
    with pytest.raises(ValueError, match="sharpness must be positive, heads and reassignments at least 1"):
        make_sela(**wrong)


def test_deepcluster_finds_groups_and_weights_them_as_if_clusters_were_sampled_uniformly():
    pixels, truth = groups()
    method = DeepCluster(Identity(), num_images=40, num_clusters=4, pca_dim=3)
    method.before_epoch(START, encode_with(pixels))
    assert one_to_one(method.labels, truth) and len(set(truth.bincount().tolist())) > 1
    with torch.no_grad():
        method.classifier.weight.normal_()
    loss = method(views_of(pixels, torch.arange(40)), START).loss
    rows = nn.functional.cross_entropy(method.classifier(pixels.flatten(1)), method.labels, reduction="none")
    expected = torch.stack([rows[method.labels == cluster].mean() for cluster in range(4)]).mean()
    torch.testing.assert_close(loss, expected)


def test_deepcluster_whitens_so_that_a_large_direction_does_not_decide():
    """One pixel has a large variance and no groups, so clusters of the features themselves follow it."""
    pixels, truth = groups(400, kinds=2)
    pixels[..., 5] = 30 * torch.randn(400, 1, 1, generator=torch.Generator().manual_seed(1))
    agreement = []
    for pca_dim in (2, None):
        method = DeepCluster(Identity(), num_images=400, num_clusters=2, iterations=50)
        method.label(pixels.flatten(1), 0, pca_dim)
        same = (method.labels == truth).float().mean().item()
        agreement.append(max(same, 1 - same))
    assert agreement[0] > 0.9 and agreement[1] < 0.7


def test_deepcluster_starts_a_new_classifier_every_epoch():
    pixels, _ = groups()
    method, found = DeepCluster(Identity(), num_images=40, num_clusters=30), []
    for step in (0, 10):
        method.before_epoch(Progress(step, 100, 10), encode_with(pixels))
        found.append(method.classifier.weight.detach().clone())
        assert found[-1].std().item() == pytest.approx(0.01, rel=0.2) and not method.classifier.bias.any()
        with torch.no_grad():
            method.classifier.bias.fill_(1)
    assert not torch.equal(*found)


def test_empty_clusters_and_images_without_features_have_no_part_in_the_loss():
    pixels, _ = groups(kinds=2)
    pixels[[1, 4]] = 0
    method = DeepCluster(Identity(), num_images=40, num_clusters=3)
    method.before_epoch(START, encode_with(pixels[:3]))  # fewer images than clusters
    assert method.labels[1] == -100 and (method.weights == 0).sum() == 1
    loss = method(views_of(pixels, torch.tensor([1, 1])), START).loss
    assert loss == 0


def test_clusterfit_labels_are_the_clusters_of_the_other_network_found_once():
    pixels, truth = groups()
    torch.manual_seed(0)
    method = ClusterFit(TinyBackbone(), pretrained=Identity(), num_images=40, num_clusters=4)
    method.before_epoch(START, encode_with(pixels))
    assert one_to_one(method.labels, truth)
    before = method.labels.clone(), method.classifier.weight.detach().clone()
    method.before_epoch(Progress(10, 100, 10), encode_with(torch.randn(40, 1, 1, 6)))
    assert torch.equal(method.labels, before[0]) and torch.equal(method.classifier.weight, before[1])
    assert method.weights.eq(1).all()


def test_frozen_network_is_a_copy_in_eval_mode_that_training_does_not_change(images):
    network = TinyBackbone()
    method = ClusterFit(network, pretrained=network, num_images=96, num_clusters=4)
    pipeline = ViewPipeline(small_views("clusterfit"), images.mean, images.std)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(method.param_groups(1e-4), lr=0.5)
    Trainer(device="cpu", callbacks=[]).fit(method, Loader(images, pipeline, 32), optimizer, Schedule(epochs=1))
    frozen = method.train().pretrained
    assert isinstance(frozen, Frozen) and not any(part.training for part in frozen.modules())
    assert all(torch.equal(value, before[key]) for key, value in frozen.network.state_dict().items())
    assert not torch.equal(network[0].weight, before["0.weight"]) and network[0].weight.requires_grad
    assert not frozen(torch.rand(2, 1, 16, 16, requires_grad=True)).requires_grad


def test_contrastive_clustering_adds_the_losses_of_images_and_clusters():
    torch.manual_seed(0)
    method = ContrastiveClustering(TinyBackbone(), num_clusters=5).double()
    images = torch.randn(2, 9, 1, 16, 16, dtype=torch.float64)
    output = method(Views((images[0], images[1])), START)
    features = [method.backbone(view) for view in images]
    rows = NTXentLoss(0.5)(*map(method.projector, features))
    columns = ClusterContrastLoss(1.0)(*(method.clusterer(x).softmax(1) for x in features))
    torch.testing.assert_close(output.loss, rows + columns)
    torch.testing.assert_close(output.assignments.sum(1), torch.ones(9, dtype=torch.float64))
    assert [part.out_features for part in method.projector if isinstance(part, nn.Linear)] == [16, 128]
    with pytest.raises(ValueError, match="num_clusters must be at least 2, got 1"):
        ContrastiveClustering(TinyBackbone(), num_clusters=1)
