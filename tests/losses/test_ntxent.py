"""NT-Xent loss compared with its formula, and the chunked with the full computation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_lib.losses import NTXentLoss


def formula(z_a: np.ndarray, z_b: np.ndarray, temperature: float) -> float:
    """Equation 1 of the paper, averaged over the anchors."""
    z = np.concatenate([z_a, z_b])
    count = len(z)
    terms = []
    for i in range(count):
        partner = (i + count // 2) % count
        scores = [z[i] @ z[k] / np.linalg.norm(z[i]) / np.linalg.norm(z[k]) / temperature for k in range(count)]
        others = [math.exp(scores[k]) for k in range(count) if k != i]
        terms.append(-math.log(math.exp(scores[partner]) / sum(others)))
    return float(np.mean(terms))


def views(batch: int, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, batch, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z[0].clone().requires_grad_(), z[1].clone().requires_grad_()


@pytest.mark.parametrize("chunk_size", [None, 1, 4, 100])
@pytest.mark.parametrize("batch", [2, 9])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 3])
def test_loss_equals_the_formula(batch: int, temperature: float, chunk_size: int | None) -> None:
    z_a, z_b = views(batch)
    expected = formula(z_a.detach().numpy(), z_b.detach().numpy(), temperature)
    assert NTXentLoss(temperature, chunk_size)(z_a, z_b).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 9, 17, 18, 1000])
def test_chunked_loss_and_gradient_equal_the_full_ones(chunk_size: int) -> None:
    z_a, z_b = views(9)
    full = NTXentLoss(0.1)(z_a, z_b)
    chunked = NTXentLoss(0.1, chunk_size)(z_a, z_b)
    assert chunked.item() == pytest.approx(full.item(), rel=1e-12)
    for factor in (1.0, -3.0):
        expected = torch.autograd.grad(factor * full, (z_a, z_b), retain_graph=True)
        actual = torch.autograd.grad(factor * chunked, (z_a, z_b), retain_graph=True)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("chunk_size", "quadratic"), [(None, True), (8, False)])
def test_chunking_saves_no_quadratic_tensor_for_backward(chunk_size: int | None, quadratic: bool) -> None:
    z_a, z_b = views(64, dim=4)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        NTXentLoss(0.1, chunk_size)(z_a, z_b)
    assert (max(saved) >= 128 * 128) == quadratic


def test_double_backward_through_chunks_raises() -> None:
    z_a, z_b = views(4)
    (gradient,) = torch.autograd.grad(NTXentLoss(0.1, 2)(z_a, z_b).square(), z_a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_chunked_loss_without_gradient_is_the_same() -> None:
    z_a, z_b = views(6)
    with torch.no_grad():
        value = NTXentLoss(0.1, 5)(z_a, z_b)
    assert not value.requires_grad and value == NTXentLoss(0.1, 5)(z_a, z_b)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_loss_of_uninformative_and_perfect_embeddings(chunk_size: int | None) -> None:
    loss = NTXentLoss(0.1, chunk_size)
    assert loss(torch.zeros(8, 3), torch.zeros(8, 3)).item() == pytest.approx(math.log(15))
    perfect = torch.eye(8, dtype=torch.float64)  # cosine 1 to the positive, 0 to the 14 negatives
    assert loss(perfect, perfect).item() == pytest.approx(math.log(1 + 14 * math.exp(-10)), rel=1e-12)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_small_temperature_keeps_value_and_gradient_accurate(chunk_size: int | None) -> None:
    z_a, z_b = views(8)
    expected = torch.autograd.grad(NTXentLoss(1e-3)(z_a, z_b), z_a)[0]
    value = NTXentLoss(1e-3, chunk_size)(z_a.float(), z_b.float())
    assert value.item() == pytest.approx(NTXentLoss(1e-3)(z_a, z_b).item(), rel=1e-5)
    actual = torch.autograd.grad(value, z_a)[0]
    assert (actual - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_bad_chunk_size_raises(chunk_size: int) -> None:
    with pytest.raises(ValueError, match=f"chunk_size must be at least 1.*got {chunk_size}"):
        NTXentLoss(chunk_size=chunk_size)


def test_temperature_zero_raises() -> None:
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        NTXentLoss(temperature=0)
