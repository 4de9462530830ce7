"""Gradient caching: computes a network in chunks of the batch, for the gradient of the whole batch in less memory."""

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
    """Within this context, each network in training mode processes a batch in `count` chunks, one after the other.

    Only the output of a chunk is kept; its activations are recomputed in the backward pass, as in GradCache (Gao et al.
    2021, arXiv:2101.06983). The loss, which may compare all images, gets the output of the whole batch, so that the
    gradient equals the gradient of the whole batch.

    Args:
        networks: Each maps (N, ...) -> (N, ...), and treats every image separately.
        count: Number of chunks, at least 1.

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
    """Refuses networks with batch normalization, whose statistics would be computed per chunk.

    Raises:
        ValueError: A layer is a batch normalization; the message names it.
    """
    for network in networks:
        for name, part in network.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"exact accumulation needs a backbone that treats every image separately, but {name} of "
                    f"{type(network).__name__} normalizes by batch statistics: use a vision transformer or a "
                    "ConvNeXt, a smaller batch, or exact=False"
                )


def _chunked(own: Callable[..., Tensor] | None, count: int) -> Callable[..., Tensor]:
    """A `forward` that applies the instance's own forward, or else its class's, to each chunk."""

    def forward(network: nn.Module, images: Tensor) -> Tensor:
        whole: Callable[[Tensor], Tensor] = own or partial(type(network).forward, network)
        if not network.training:
            return whole(images)
        return torch.cat([checkpoint(whole, chunk, use_reentrant=False) for chunk in images.chunk(count)])

    return forward
