"""A network computed chunk by chunk of the batch: the memory of one chunk, the result of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["check_separable", "computed_in_chunks"]


@contextmanager
def computed_in_chunks(networks: Iterable[nn.Module], count: int) -> Iterator[None]:
    """Within, each network in training mode takes a batch in `count` chunks, one after the other.

    Only a chunk's output is kept; what its gradient needs is computed again in the backward pass, as in GradCache (Gao
    et al. 2021, arXiv:2101.06983). What follows, such as a loss that compares all images, sees the whole batch, so that
    the gradient is that of the whole batch.

    Args:
        networks: Each (N, ...) -> (N, ...), image by image.
        count: Chunks, at least 1.

    Raises:
        ValueError: A network is not separable; see `check_separable`.
    """
    networks = list(networks)
    check_separable(networks)
    before = [network.__dict__.get("forward") for network in networks]
    for network, forward in zip(networks, before, strict=True):
        network.forward = MethodType(_chunked(forward, count), network)
    try:
        yield
    finally:
        for network, forward in zip(networks, before, strict=True):
            del network.forward
            if forward is not None:
                network.forward = forward


def check_separable(networks: Iterable[nn.Module]) -> None:
    """Refuses networks that normalize by batch statistics, which would be those of the chunks.

    Raises:
        ValueError: The message names the layer.
    """
    for network in networks:
        for name, part in network.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"exact accumulation needs a backbone that takes each image by itself, and {name} of "
                    f"{type(network).__name__} normalizes by batch statistics: take a vision transformer or a "
                    "ConvNeXt, a smaller batch, or exact=False"
                )


def _chunked(own: Callable[..., Tensor] | None, count: int) -> Callable[..., Tensor]:
    """A method that calls the instance's own forward, or else its class's."""

    def forward(network: nn.Module, images: Tensor) -> Tensor:
        whole: Callable[[Tensor], Tensor] = own or partial(type(network).forward, network)
        if not network.training:
            return whole(images)
        return torch.cat([checkpoint(whole, chunk, use_reentrant=False) for chunk in images.chunk(count)])

    return forward
