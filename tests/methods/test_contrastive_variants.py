"""DCL, RPC, DirectCLR and YADIM; the HSIC form of Barlow Twins, VICReg-exp and VICReg-ctr as options."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import METHODS, Progress, Views
from ssl_lib.losses import AMDIMLoss, BarlowTwinsLoss, DCLLoss, RPCLoss, VICRegLoss
from tests.conftest import TinyBackbone

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


def two_views(count=8):
    generator = torch.Generator().manual_seed(1)
    return Views(tuple(torch.randn(2, count, 1, 16, 16, generator=generator).unbind(0)))


class Recorder(TinyBackbone):
    """A backbone that keeps the number of images of each forward pass."""

    def forward(self, images):
        self.seen = [*getattr(self, "seen", []), len(images)]
        return super().forward(images)


@pytest.mark.parametrize(
    ("name", "seen"), [("dcl", [16]), ("rpc", [16]), ("supcon", [16]), ("directclr", [8, 8]), ("yadim", [8, 8])]
)
def test_views_share_a_forward_pass_as_in_the_reference(name, seen, make_method):
    method, views = make_method(name, Recorder()), two_views()
    method(Views(views.large, labels=torch.arange(8) % 3), START)
    assert method.backbone.seen == seen


@pytest.mark.parametrize(
    ("name", "arguments", "loss"),
    [
        ("dcl", {}, DCLLoss(0.1)),
        ("dcl", {"sigma": 0.5, "temperature": 0.2}, DCLLoss(0.2, 0.5)),
        ("rpc", {}, RPCLoss(32.0, 0.3, 0.01, 0.1, normalize=False)),
        ("yadim", {"clip": 5.0}, AMDIMLoss(5.0)),
        ("barlow_twins", {"hsic": True, "redundancy_weight": 0.1}, BarlowTwinsLoss(0.1, hsic=True)),
        ("vicreg", {"covariance": "exp"}, VICRegLoss(covariance="exp")),
        ("vicreg", {"covariance": "ctr", "temperature": 0.5}, VICRegLoss(covariance="ctr", temperature=0.5)),
    ],
)
def test_options_reach_the_loss_of_the_projections(name, arguments, loss, make_method):
    method, views = make_method(name, **arguments), two_views()
    output = method(views, START)
    expected = loss(output.embeddings, output.embeddings_b)
    torch.testing.assert_close(output.loss.detach(), expected)
    plain = make_method(name)(views, START).loss
    assert not arguments or not torch.allclose(plain, output.loss)


def test_directclr_has_no_projector_and_compares_the_first_features(make_method):
    method, views = make_method("directclr", dim=3), two_views()
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"backbone"}
    output = method(views, START)
    assert torch.equal(output.embeddings, output.features[:, :3].detach())
    (gradient,) = torch.autograd.grad(output.loss, output.features)
    assert gradient[:, :3].any() and not gradient[:, 3:].any()
    with pytest.raises(ValueError, match="dim must be at most the backbone's 16 features, got 17"):
        METHODS["directclr"](TinyBackbone(), dim=17)


def test_chance_loss_of_rpc_is_known_for_dot_products_only(make_method):
    assert make_method("rpc").chance_loss(128) == pytest.approx(-(0.7**2) / 0.22)
    assert make_method("rpc", normalize=True).chance_loss(128) is None
