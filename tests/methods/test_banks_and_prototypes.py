"""Particulars of methods with memory banks and prototypes: NPID, PIRL, PCL and ProPos."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import Progress, Views
from ssl_lib.losses import NegativeCosineLoss, PIRLLoss, ProPosLoss, ProtoNCELoss
from ssl_lib.types import BatchRandom
from ssl_lib.utils.rows import unit_rows

START = Progress(0, 100, 10)
LATER = Progress(25, 100, 10)  # epoch 2


def two_views(seed=0):
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(8, 1, 16, 16, generator=generator) for _ in range(2))
    random = BatchRandom(8, generator=torch.Generator().manual_seed(seed))
    return Views(views, indices=torch.arange(8) * 3, random=random)


def clustered(method, progress):
    """Runs `before_epoch` with 96 random images."""
    images = torch.randn(96, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    method.before_epoch(progress, lambda network: network(images))
    return method


def shared(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_npid_negatives_are_drawn_from_the_shared_numbers(make_method):
    method = make_method("instance_discrimination", num_negatives=10)
    expected = PIRLLoss(96, 16, weight=0.0, num_negatives=10)
    expected.bank.load_state_dict(method.loss.bank.state_dict())
    z = method.projector(method.backbone(two_views().large[0]))
    negatives = (shared(0, 10) * 96).long()
    torch.testing.assert_close(method(two_views(), START).loss, expected(z, None, two_views().indices, negatives))


def test_bank_holds_the_embeddings_of_the_images_after_the_update(make_method):
    for name in ("instance_discrimination", "pirl"):
        method = make_method(name, bank_momentum=0.0)
        before = method.loss.bank.rows.clone()
        output = method(two_views(), START)
        method.loss.commit()
        places = two_views().indices
        torch.testing.assert_close(method.loss.bank.rows[places], unit_rows(output.embeddings), rtol=1e-5, atol=1e-6)
        others = torch.ones(96, dtype=torch.bool).index_fill(0, places, False)
        assert torch.equal(method.loss.bank.rows[others], before[others])


@pytest.mark.parametrize("name", ["instance_discrimination", "pirl"])
def test_bank_is_filled_before_the_first_update_alone_and_only_if_asked_to(name, make_method):
    random = make_method(name)
    before = random.loss.bank.rows.clone()
    assert torch.equal(clustered(random, START).loss.bank.rows, before)
    filled = make_method(name, fill_bank=True)
    assert torch.equal(clustered(filled, LATER).loss.bank.rows, before)
    clustered(filled, START)
    images = torch.randn(96, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = unit_rows(filled.projector(filled.backbone(images)))
    torch.testing.assert_close(filled.loss.bank.rows, expected, rtol=1e-4, atol=1e-5)


def test_bank_of_another_number_of_images_is_refused(make_method):
    with pytest.raises(ValueError, match="a bank of 96 images does not fit the data set of 95 images"):
        make_method("pirl").loss.bank.check_data(95)


def test_pirl_concatenates_the_embeddings_of_the_tiles_in_random_order(make_method):
    method = make_method("pirl", hidden_dim=None)
    views, seen = two_views(), []
    method.backbone.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    output = method(views, START)
    assert [len(images) for images, _ in seen] == [8, 72] and seen[1][0].shape[-1] == 4  # 64 / 85 of 5 pixels
    places = shared(0, 8, 9, 2)  # drawn first: the places of the tiles, then their order
    generator = torch.Generator().manual_seed(0)
    torch.rand(8, 9, 2, generator=generator)
    order = torch.rand(8, 9, generator=generator).argsort(1)
    corners = torch.tensor([[5 * (t // 3), 5 * (t % 3)] for t in range(9)])
    for image in range(8):
        parts = []
        for tile in order[image].tolist():
            row, column = (corners[tile] + (places[image, tile] * 2).long()).tolist()
            cut = views.large[1][image, :, row : row + 4, column : column + 4]
            assert torch.equal(seen[1][0][9 * image + tile], cut)
            parts.append(method.tile_projector(seen[1][1][9 * image + tile]))
        torch.testing.assert_close(output.embeddings_b[image], method.joint(torch.cat(parts)), rtol=1e-4, atol=1e-5)


def test_pirl_weighs_tiles_and_images(make_method):
    losses = [make_method("pirl", weight=weight, kind="cross_entropy")(two_views(), START).loss for weight in (0, 1)]
    mixed = make_method("pirl", weight=0.25, kind="cross_entropy")(two_views(), START).loss
    torch.testing.assert_close(mixed, 0.75 * losses[0] + 0.25 * losses[1])
    assert losses[0] != losses[1]


@pytest.mark.parametrize("name", ["instance_discrimination", "pirl"])
@pytest.mark.parametrize("kind", ["nce", "cross_entropy"])
def test_chance_loss_is_near_the_first_loss(name, kind, make_method):
    method = make_method(name, num_negatives=60, temperature=0.5, kind=kind)
    assert method(two_views(), START).loss.item() == pytest.approx(method.chance_loss(8), rel=0.1)


def test_pcl_is_moco_v2_until_the_end_of_the_warmup(make_method):
    method = make_method("pcl", hidden_dim=32, warmup_epochs=2)
    moco = make_method("moco_v2", temperature=0.2)
    moco.load_state_dict({key: method.state_dict()[key] for key in moco.state_dict()})
    clustered(method, START)
    assert (method.clusters[0].assignments == -100).all()
    plain = moco(two_views(), START).loss
    assert torch.equal(method(two_views(), Progress(19, 100, 10)).loss, plain)
    clustered(method, LATER)
    assert method(two_views(), LATER).loss > plain + 0.1


def test_pcl_adds_proto_nce_with_the_concentrations_of_its_clusters(make_method):
    method = clustered(make_method("pcl", temperature=0.3, num_negatives=3), LATER)
    temperatures = method.temperatures.split([8, 12])
    assert [len(x.centroids) for x in method.clusters] == [8, 12]
    assert all(t.mean().item() == pytest.approx(0.3) and t.std() > 1e-4 for t in temperatures)
    views, places = two_views(), two_views().indices
    output = method(views, LATER)
    assigned = [x.assignments[places] for x in method.clusters]
    generator = torch.Generator().manual_seed(0)
    negatives = []
    for own, count in zip(assigned, (8, 12), strict=True):
        order = torch.rand(count, generator=generator)
        order[own.unique()] += 1
        negatives.append(order.argsort()[:3])
    query = method.projector(method.backbone(views.large[0]))
    centroids = [x.centroids for x in method.clusters]
    expected = ProtoNCELoss()(query, centroids, assigned, temperatures, negatives)
    torch.testing.assert_close(output.metrics["prototype_loss"], expected.detach(), rtol=1e-5, atol=1e-5)
    instance = method.loss(query, method.teacher(views.large[1]), method.queue.rows)
    torch.testing.assert_close(output.loss, instance + expected, rtol=1e-5, atol=1e-5)


def test_pcl_refuses_more_clusters_than_images(make_method):
    with pytest.raises(ValueError, match="at most the number of images, 96, got 97"):
        make_method("pcl", granularities=(8, 97))


def test_propos_is_twice_the_alignment_without_noise_until_the_clusters_exist(make_method):
    method, views = make_method("propos", warmup_epochs=2, noise=5.0), two_views()
    clustered(method, START)
    z = [method.projector(method.backbone(x)) for x in views.large]
    k = [method.teacher(x) for x in views.large]
    loss = NegativeCosineLoss()
    expected = loss(method.predictor(z[0]), k[1]) + loss(method.predictor(z[1]), k[0])
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-6)


def test_propos_adds_the_weighted_scattering_of_its_clusters(make_method):
    method, views = clustered(make_method("propos", weight=0.7, noise=0.0), LATER), two_views()
    labels = method.clusters.assignments[views.indices]
    assert len(labels.unique()) > 1
    z = [method.projector(method.backbone(x)) for x in views.large]
    k = [method.teacher(x) for x in views.large]
    aligned, spread = NegativeCosineLoss(), ProPosLoss(8, 0.5)
    alignment = aligned(method.predictor(z[0]), k[1]) + aligned(method.predictor(z[1]), k[0])
    scattering = (spread(z[0], k[1], labels) + spread(z[1], k[0], labels)) / 2
    torch.testing.assert_close(method(views, LATER).loss, alignment + 0.7 * scattering, rtol=1e-5, atol=1e-5)


def test_propos_noise_is_normal_and_differs_between_images_views_and_dimensions(make_method):
    method, inputs = make_method("propos", noise=3.0), []
    method.predictor.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    noise = []
    for seed in range(50):
        output = method(two_views(seed), LATER)
        noise.append(torch.stack([inputs.pop() - output.embeddings_b, inputs.pop() - output.embeddings]))
    drawn = torch.stack(noise) / 3
    assert drawn.unique().numel() > 0.99 * drawn.numel()
    assert abs(drawn.mean()) < 4 / drawn.numel() ** 0.5
    assert drawn.std().item() == pytest.approx(1, abs=0.05) and (drawn**4).mean().item() == pytest.approx(3, abs=0.4)


def test_propos_decays_all_parameters_and_scales_the_rate_of_the_predictor(make_method):
    method = make_method("propos")
    groups = method.param_groups(0.1)
    assert {group["weight_decay"] for group in groups} == {0.1}
    scaled = {id(p) for group in groups if group["lr_scale"] == 10 for p in group["params"]}
    assert scaled == {id(p) for p in method.predictor.parameters()}


def test_npid_decays_all_parameters_and_pirl_neither_biases_nor_norms(make_method):
    for name, expected in (("instance_discrimination", 0.1), ("pirl", 0.0)):
        groups = make_method(name).param_groups(0.1)
        assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim == 1} == {expected}
