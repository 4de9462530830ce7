"""MoCo v1 and v3, NNCLR, ReSSL, IFM, and RAFT as an option of BYOL."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_lib import METHODS, Progress, Views
from ssl_lib.losses import InfoNCELoss, MoCoV3Loss
from ssl_lib.utils.rows import unit_rows
from tests.conftest import TinyBackbone

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


def two_views(count=8):
    generator = torch.Generator().manual_seed(1)
    return Views(tuple(torch.randn(2, count, 1, 16, 16, generator=generator).unbind(0)))


class Recorder(TinyBackbone):
    """A backbone that keeps its inputs."""

    def forward(self, images):
        self.seen = [*getattr(self, "seen", []), images]
        return super().forward(images)


@pytest.mark.parametrize("name", ["moco_v3", "nnclr"])
def test_views_are_separate_forward_passes(name, make_method):
    method, views = make_method(name, Recorder()), two_views()
    method(views, START)
    assert all(torch.equal(a, b) for a, b in zip(method.backbone.seen, views.large, strict=True))


@pytest.mark.parametrize("name", ["moco_v1", "ressl", "ifm"])
def test_student_gets_the_first_view_and_teacher_the_second(name, make_method):
    method, views = make_method(name, Recorder()), two_views()
    method(views, START)
    (student,), (teacher,) = method.backbone.seen, method.teacher.parts[0].seen
    assert torch.equal(student, views.large[0]) and torch.equal(teacher, views.large[1])


def test_moco_v1_is_moco_v2_with_a_linear_projector_and_its_own_temperature():
    torch.manual_seed(0)
    method = METHODS["moco_v1"](TinyBackbone(), queue_size=48)
    (layer,) = method.projector
    assert isinstance(layer, nn.Linear) and layer.out_features == 128 and layer.bias is not None
    views = two_views()
    similarities = (
        unit_rows(method.projector(method.backbone(views.large[0])))
        @ torch.cat((unit_rows(method.teacher(views.large[1])), method.queue.rows)).T
    )
    logits = similarities / 0.07
    own = logits[:, :8].diagonal()
    expected = (torch.cat((own[:, None], logits[:, 8:]), 1).logsumexp(1) - own).mean()
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-5)


def test_moco_v3_loss_is_the_sum_of_both_directions(make_method):
    method, views = make_method("moco_v3", temperature=0.2), two_views()
    queries = [method.predictor(method.projector(method.backbone(x))) for x in views.large]
    keys = [method.teacher(x) for x in views.large]
    expected = MoCoV3Loss(0.2)(queries[0], keys[1]) + MoCoV3Loss(0.2)(queries[1], keys[0])
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-5)


def test_moco_v3_heads_are_the_references():
    method = METHODS["moco_v3"](TinyBackbone())
    projector = [nn.Linear(16, 4096, False), nn.BatchNorm1d(4096), nn.ReLU(), nn.Linear(4096, 256, False)]
    predictor = [nn.Linear(256, 4096, False), nn.BatchNorm1d(4096), nn.ReLU(), nn.Linear(4096, 256, False)]
    assert repr(method.projector) == repr(nn.Sequential(*projector, nn.BatchNorm1d(256, affine=False)))
    assert repr(method.predictor) == repr(nn.Sequential(*predictor))


def projections(method, views):
    return [method.projector(method.backbone(x)).detach() for x in views.large]


def test_nnclr_with_a_queue_of_the_batch_itself_contrasts_the_projections(make_method):
    method, views = make_method("nnclr", queue_size=16, temperature=0.2), two_views()
    z_a, z_b = projections(method, views)
    method.queue.rows.copy_(unit_rows(torch.cat((z_b, z_a))))
    p_a, p_b = method.predictor(z_a), method.predictor(z_b)
    expected = (InfoNCELoss(0.2)(z_a, p_b) + InfoNCELoss(0.2)(z_b, p_a)) / 2
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-5)


def test_nnclr_contrasts_the_nearest_row_by_brute_force_in_float64(make_method):
    method, views = make_method("nnclr").double(), Views(tuple(x.double() for x in two_views().large))
    z = projections(method, views)
    neighbors = []
    for rows in z:
        cosines = [[float(x @ q / x.norm()) for q in method.queue.rows] for x in rows]
        neighbors.append(torch.stack([method.queue.rows[row.index(max(row))] for row in cosines]))
    p = [method.predictor(x) for x in z]
    expected = (InfoNCELoss(0.1)(neighbors[0], p[1]) + InfoNCELoss(0.1)(neighbors[1], p[0])) / 2
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-10, atol=0)


def test_nnclr_queue_gets_the_first_view_alone_and_only_after_the_update(make_method):
    method, views = make_method("nnclr"), two_views()
    before = method.queue.rows.clone()
    z_a, _ = projections(method, views)
    method(views, START)
    assert torch.equal(method.queue.rows, before)
    method.queue.commit()
    torch.testing.assert_close(method.queue.rows, torch.cat((unit_rows(z_a), before[8:])), rtol=1e-5, atol=1e-6)


def test_ressl_loss_is_the_cross_entropy_with_the_teachers_similarities(make_method):
    method, views = make_method("ressl"), two_views()
    query = unit_rows(method.projector(method.backbone(views.large[0])))
    targets = (unit_rows(method.teacher(views.large[1])) @ method.queue.rows.T / 0.04).softmax(1)
    expected = -(targets * (query @ method.queue.rows.T / 0.1).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-5)


def test_momentum_is_constant_unless_ressl_is_given_a_final_one(make_method):
    middle = Progress(50, 100, 10)
    for name in ("moco_v1", "moco_v2", "ifm", "ressl"):
        assert make_method(name, momentum=0.97).ema_momentum(middle) == pytest.approx(0.97, abs=1e-12)
    assert make_method("ressl", momentum=0.9, final_momentum=1.0).ema_momentum(middle) == pytest.approx(0.95)


def test_weight_decay_of_biases_and_norms_is_the_references(make_method):
    """MoCo's SGD decays all parameters; ReSSL leaves out biases and norms."""
    for name, expected in (("moco_v1", 0.1), ("moco_v2", 0.1), ("ifm", 0.1), ("ressl", 0.0)):
        groups = make_method(name).param_groups(0.1)
        assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim == 1} == {expected}
        assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim > 1} == {0.1}


def test_ifm_weighs_both_cross_entropies(make_method):
    views = two_views()
    losses = [
        make_method("ifm", epsilon=e, alpha=a)(views, START).loss for e, a in ((0.0, 1.0), (0.1, 1e9), (0.1, 1.0))
    ]
    plain = make_method("moco_v2")(views, START).loss
    assert torch.equal(losses[0], plain)
    torch.testing.assert_close(losses[2], (losses[0] + losses[1]) / 2)
    assert METHODS["ifm"](TinyBackbone(), queue_size=8).loss.epsilon == 0.1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("moco_v1", {}), ("moco_v3", {"temperature": 0.5}), ("nnclr", {}), ("ressl", {}), ("ifm", {"alpha": 0.5})],
)
def test_chance_loss_is_the_loss_of_equal_embeddings(name, arguments, make_method):
    method = make_method(name, **arguments)
    rows = torch.ones(8, 16, dtype=torch.float64)
    queue = unit_rows(torch.ones(48, 16, dtype=torch.float64))
    loss = method.loss(rows, rows, queue) if name in ("moco_v1", "ressl", "ifm") else method.loss(rows, rows)
    assert method.chance_loss(8) == pytest.approx((2 if name == "moco_v3" else 1) * loss.item(), rel=1e-12)
    assert name != "moco_v3" or loss.item() == pytest.approx(2 * 0.5 * math.log(8))


def test_raft_aligns_the_predictions_and_moves_them_away_from_the_teacher(make_method):
    method, views = make_method("byol", raft=True), two_views()
    p_a, p_b = (unit_rows(method.predictor(method.projector(method.backbone(x)))) for x in views.large)
    t_a, t_b = (unit_rows(method.teacher(x)) for x in views.large)

    def distance(a, b):
        return (a - b).square().sum(1).mean()

    expected = distance(p_a, p_b) - (distance(p_a, t_a) + distance(p_b, t_b)) / 2
    torch.testing.assert_close(method(views, START).loss, expected, rtol=1e-5, atol=1e-5)


def test_raft_has_the_weights_of_byol_and_another_loss(make_method):
    byol, raft = make_method("byol"), make_method("byol", raft=True)
    assert all(torch.equal(value, raft.state_dict()[key]) for key, value in byol.state_dict().items())
    assert byol.state_dict().keys() == raft.state_dict().keys()
    assert byol(two_views(), START).loss > 0 > raft(two_views(), START).loss
