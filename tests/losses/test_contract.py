"""Properties of every loss of two views: precision, input validation, finite gradients and invariances."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ssl_lib.losses import (
    AMDIMLoss,
    BarlowTwinsLoss,
    DCLLoss,
    DINOLoss,
    DirectCLRLoss,
    MoCoV3Loss,
    NegativeCosineLoss,
    NTXentLoss,
    RAFTLoss,
    ReSSLLoss,
    RPCLoss,
    VICRegLoss,
)


class DINOPair(nn.Module):
    """DINO loss as a loss of two views: the student gets both views, the teacher gets the second."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DINOLoss(6)

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return self.loss([z_b, z_a], [z_b], 0.04)


class ReSSLPair(nn.Module):
    """ReSSL loss as a loss of two views, with the axes as its queue."""

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return ReSSLLoss()(z_a, z_b, torch.eye(6))


class RAFTPair(nn.Module):
    """RAFT loss as a loss of two views: the teacher's projections are the other view."""

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return RAFTLoss(2.0, 0.5)(z_a, z_b, z_b, z_a)


PAIR_LOSSES = {
    "ntxent": NTXentLoss,
    "ntxent_chunked": lambda: NTXentLoss(chunk_size=3),
    "negative_cosine": NegativeCosineLoss,
    "barlow_twins": BarlowTwinsLoss,
    "vicreg": VICRegLoss,
    "barlow_twins_hsic": lambda: BarlowTwinsLoss(hsic=True),
    "vicreg_exp": lambda: VICRegLoss(covariance="exp"),
    "vicreg_ctr": lambda: VICRegLoss(covariance="ctr"),
    "dcl": DCLLoss,
    "dclw": lambda: DCLLoss(sigma=0.5),
    "directclr": lambda: DirectCLRLoss(3),
    "rpc": RPCLoss,
    "amdim": AMDIMLoss,
}
ALL_LOSSES = {**PAIR_LOSSES, "dino": DINOPair, "moco_v3": MoCoV3Loss, "ressl": ReSSLPair, "raft": RAFTPair}
pair_losses = pytest.mark.parametrize("make", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
all_losses = pytest.mark.parametrize("make", ALL_LOSSES.values(), ids=ALL_LOSSES)


def views(batch: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, batch, 6, dtype=torch.float64, generator=generator).to(dtype)
    return z[0].clone().requires_grad_(), z[1].clone().requires_grad_()


def value_and_gradient(loss: nn.Module, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(z_a, z_b)
    value.backward()
    assert z_a.grad is not None
    return value.detach(), z_a.grad


@pair_losses
@pytest.mark.parametrize("batch", [2, 5])
def test_gradient_matches_finite_differences(make, batch: int) -> None:
    z_a, z_b = views(batch)
    if isinstance(make(), NegativeCosineLoss):
        z_b = z_b.detach()
    assert torch.autograd.gradcheck(make(), (z_a, z_b))


@all_losses
def test_float64_inputs_give_a_float64_loss(make) -> None:
    value, gradient = value_and_gradient(make(), *views())
    assert value.shape == () and value.dtype == gradient.dtype == torch.float64


@all_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_inputs_are_computed_in_float32(make, dtype: torch.dtype) -> None:
    low = views(dtype=dtype)
    full = [z.detach().float().requires_grad_() for z in low]
    value, gradient = value_and_gradient(make(), *low)
    expected, expected_gradient = value_and_gradient(make(), *full)
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@all_losses
def test_autocast_does_not_change_loss_or_gradient(make) -> None:
    expected, expected_gradient = value_and_gradient(make(), *views(dtype=torch.float32))
    z_a, z_b = views(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (z_a @ z_b.T).dtype == torch.bfloat16
        value = make()(z_a, z_b)
    value.backward()
    assert torch.equal(value, expected) and torch.equal(z_a.grad, expected_gradient)


@all_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zeros", "constant", "one zero row", "duplicates", "same views", "batch of two"])
def test_degenerate_batches_give_finite_loss_and_gradient(make, kind: str, dtype: torch.dtype) -> None:
    z_a, z_b = (z.detach() for z in views(dtype=dtype))
    if kind in ("zeros", "constant"):
        z_a, z_b = torch.full_like(z_a, float(kind == "constant")), torch.full_like(z_b, float(kind == "constant"))
    elif kind == "one zero row":
        z_a[0] = 0
    elif kind == "duplicates":
        z_a, z_b = z_a[:1].repeat(4, 1), z_b[:1].repeat(4, 1)
    elif kind == "same views":
        z_b = z_a.clone()
    else:
        z_a, z_b = z_a[:2], z_b[:2]
    value, gradient = value_and_gradient(make(), z_a.clone().requires_grad_(), z_b.clone().requires_grad_())
    assert value.isfinite() and gradient.isfinite().all()


@pair_losses
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), r"same shape.*\(4, 3\) and \(4, 2\)"),
        (torch.zeros(4, 3), torch.zeros(5, 3), r"same shape.*\(4, 3\) and \(5, 3\)"),
        (torch.zeros(4), torch.zeros(4), r"shape \(N, D\).*\(4,\)"),
        (torch.zeros(4, 3, 1), torch.zeros(4, 3, 1), r"shape \(N, D\).*\(4, 3, 1\)"),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3), r"float tensor.*torch.int64"),
        (torch.zeros(0, 3), torch.zeros(0, 3), r"at least \d images.*\(0, 3\)"),
    ],
)
def test_bad_shapes_raise(make, a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(a, b)


@pytest.mark.parametrize("make", [NTXentLoss, BarlowTwinsLoss, VICRegLoss])
def test_batch_of_one_raises(make) -> None:
    with pytest.raises(ValueError, match=r"at least 2 images, got z_a of shape \(1, 3\)"):
        make()(torch.ones(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (NTXentLoss, "temperature"),
        (BarlowTwinsLoss, "scale"),
        (BarlowTwinsLoss, "redundancy_weight"),
        (VICRegLoss, "invariance_weight"),
        (VICRegLoss, "variance_weight"),
        (VICRegLoss, "covariance_weight"),
        (VICRegLoss, "eps"),
    ],
)
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_bad_constructor_arguments_raise(make, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        make(**{name: value})


@all_losses
def test_eval_mode_changes_neither_inputs_nor_state(make) -> None:
    loss = make().eval()
    before = copy.deepcopy(loss.__dict__), copy.deepcopy(loss.state_dict())
    z_a, z_b = views()
    copies = z_a.detach().clone(), z_b.detach().clone()
    first, second = loss(z_a, z_b), loss(z_a, z_b)
    assert torch.equal(first, second)
    assert torch.equal(z_a, copies[0]) and torch.equal(z_b, copies[1])
    assert before[0].keys() == loss.__dict__.keys()
    assert all(torch.equal(before[1][key], value) for key, value in loss.state_dict().items())


@pair_losses
def test_loss_is_invariant_to_the_order_of_images(make) -> None:
    z_a, z_b = views()
    order = torch.tensor([3, 0, 6, 1, 5, 4, 2])
    torch.testing.assert_close(make()(z_a[order], z_b[order]), make()(z_a, z_b), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(set(PAIR_LOSSES) - {"negative_cosine"}))
def test_loss_is_symmetric_in_both_views(name: str) -> None:
    loss = PAIR_LOSSES[name]()
    z_a, z_b = views()
    swapped_b, swapped_a = (z.detach().requires_grad_() for z in (z_a, z_b))
    _, gradient = value_and_gradient(loss, z_a, z_b)
    value = loss(swapped_a, swapped_b)
    value.backward()
    torch.testing.assert_close(value, loss(z_a, z_b), rtol=1e-12, atol=0)
    torch.testing.assert_close(swapped_b.grad, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["ntxent", "ntxent_chunked", "negative_cosine"])
def test_loss_is_invariant_to_the_norms_of_embeddings(name: str) -> None:
    z_a, z_b = views()
    lengths = torch.logspace(-6, 6, 7, dtype=torch.float64)[:, None]
    loss = PAIR_LOSSES[name]()
    torch.testing.assert_close(loss(z_a * lengths, z_b / lengths), loss(z_a, z_b), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-13, 1e20, 1e30, 1e36])
@pytest.mark.parametrize("name", ["ntxent", "ntxent_chunked", "negative_cosine"])
def test_float32_loss_and_gradient_keep_the_direction_at_any_scale(name: str, scale: float) -> None:
    z_a, z_b = views(dtype=torch.float32)
    loss = PAIR_LOSSES[name]()
    expected, expected_gradient = value_and_gradient(loss, z_a, z_b)
    scaled = [(scale * z.detach()).requires_grad_() for z in (z_a, z_b)]
    value, gradient = value_and_gradient(loss, *scaled)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scale * gradient, expected_gradient, rtol=1e-4, atol=1e-6)
