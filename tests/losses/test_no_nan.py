"""No public loss gives NaN or infinity for degenerate embeddings; new losses are covered automatically."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.losses.generic import LOSSES, after_update, build, inputs

DIM = 6
BATCHES: dict[str, Callable[[Tensor], Tensor]] = {
    "black": torch.zeros_like,
    "constant": torch.ones_like,
    "one value per image": lambda z: z[:, :1].repeat(1, DIM),
    "duplicated": lambda z: z[:1].repeat(len(z), 1),
    "one of zeros": lambda z: torch.cat((torch.zeros_like(z[:1]), z[1:])),
    "two": lambda z: z[:2],
    "two of zeros": lambda z: torch.zeros_like(z[:2]),
    "tiny": lambda z: 1e-30 * z,
    "subnormal": lambda z: 1e-40 * z,
    "large": lambda z: 1e4 * z,
}


@pytest.mark.parametrize("same_views", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_finite(name, batch, dtype, same_views) -> None:
    loss, generator = build(name, DIM), torch.Generator()
    leaves: list[Tensor] = []

    def make() -> Tensor:
        seed = 0 if same_views else len(leaves)
        z = torch.randn(8, DIM, generator=generator.manual_seed(seed), dtype=torch.float64)
        leaves.append(BATCHES[batch](z).to(dtype).requires_grad_())
        return leaves[-1]

    for _ in range(2):  # the second pass uses state from the first, such as a center or a queue
        value = loss(**inputs(loss, make))
        assert value.isfinite() and value.dtype == dtype
        value.backward()
        after_update(loss)
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all(buffer.isfinite().all() for buffer in loss.buffers())
