"""No registered loss gives NaN or infinity for embeddings without spread; losses to come are covered unlisted."""

from __future__ import annotations

import typing
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import ssl_lib.losses  # noqa: F401  (fills the registry)
from ssl_lib.registry import LOSSES
from ssl_lib.schema import REQUIRED, arguments_of

DIM = 6
BATCHES: dict[str, typing.Callable[[Tensor], Tensor]] = {
    "black": torch.zeros_like,
    "constant": torch.ones_like,
    "one number per image": lambda z: z[:, :1].repeat(1, DIM),
    "duplicated": lambda z: z[:1].repeat(len(z), 1),
    "one of zeros": lambda z: torch.cat((torch.zeros_like(z[:1]), z[1:])),
    "two": lambda z: z[:2],
    "two of zeros": lambda z: torch.zeros_like(z[:2]),
    "tiny": lambda z: 1e-30 * z,
    "large": lambda z: 1e4 * z,
}


def build(name: str) -> nn.Module:
    """A loss, every width that it asks for being that of the embeddings."""
    required = {key: entry for key, entry in arguments_of(LOSSES[name]).items() if entry.default is REQUIRED}
    unknown = {key for key, entry in required.items() if entry.annotation is not int}
    assert not unknown, f"teach this test what {name} takes as {unknown}"
    return LOSSES[name](**dict.fromkeys(required, DIM))


def inputs(loss: nn.Module, make: typing.Callable[[], Tensor]) -> dict[str, typing.Any]:
    """An argument for each parameter of `forward` without a default, by its annotation."""
    hints = typing.get_type_hints(loss.forward)
    given: dict[str, typing.Any] = {}
    for name, entry in arguments_of(loss.forward).items():
        if entry.default is not REQUIRED:
            continue
        hint = hints[name]
        if hint is Tensor:
            given[name] = make()
        elif typing.get_origin(hint) in (Sequence, list, tuple):
            given[name] = [make(), make()]
        elif hint is float:
            given[name] = 0.04
        else:
            raise AssertionError(f"teach this test what {type(loss).__name__}.forward takes as {name}: {hint}")
    return given


@pytest.mark.parametrize("same_views", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_finite(name, batch, dtype, same_views) -> None:
    loss, generator = build(name), torch.Generator()
    leaves: list[Tensor] = []

    def make() -> Tensor:
        seed = 0 if same_views else len(leaves)
        z = torch.randn(8, DIM, generator=generator.manual_seed(seed), dtype=torch.float64)
        leaves.append(BATCHES[batch](z).to(dtype).requires_grad_())
        return leaves[-1]

    for _ in range(2):  # the second time with what the first has left in a centre or a queue
        value = loss(**inputs(loss, make))
        assert value.isfinite() and value.dtype == dtype
        value.backward()
        if hasattr(loss, "update_center"):
            loss.update_center()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all(buffer.isfinite().all() for buffer in loss.buffers())
