"""NT-Xent contrastive loss of SimCLR, with optional chunking to save memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ssl_lib.distributed import gather, rank
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.utils.rows import unit_rows

__all__ = ["NTXentLoss"]


class NTXentLoss(nn.Module):
    """Normalized temperature-scaled cross-entropy: identifies the other view of the same image among all views.

    Source: SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1); google-research/simclr, tf2/objective.py, which
    sums two halves and so gives twice this mean. Negatives come from all processes.

    Args:
        temperature: Divides the cosine similarities, > 0.
        chunk_size: Number of anchors per block of the similarity matrix, >= 1; None computes the full (2N, 2N) matrix.
            Chunking does not change the loss or its gradient, but does not support double backward because the
            gradient is computed in the forward pass. 1024 is a good size: it needs 4 bytes x 1024 x 2N, 64 MiB for
            N = 8192.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.1, chunk_size: int | None = None) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, or None to disable chunking, got {chunk_size}")
        self.temperature = temperature
        self.chunk_size = chunk_size

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Computes the loss from the embeddings of two views, both (N, D); rows need not be normalized.

        Returns:
            Scalar >= 0, averaged over this process's 2N anchors. Chance level is log(2N - 1), with N the global batch.

        Raises:
            ValueError: The views are not float matrices of the same shape, or the global batch has fewer than 2 images.
        """
        check_pair(z_a, z_b)
        with without_autocast(z_a):
            anchors = unit_rows(torch.cat(upcast(z_a, z_b)))  # (2N, D)
            keys = gather(anchors)  # (world_size * 2N, D)
            own = rank() * len(anchors)  # index of this process's first anchor among the keys
            partners = own + torch.arange(len(anchors), device=keys.device).roll(len(z_a))
            if self.chunk_size is None:
                scores = anchors / self.temperature @ keys.T
                scores.diagonal(own).fill_(-math.inf)
                return F.cross_entropy(scores, partners)
            inputs = anchors, keys.view_as(keys), partners  # view_as because torch.compile requires distinct tensors
            loss: Tensor = _ChunkedNTXent.apply(*inputs, own, self.temperature, self.chunk_size)
            return loss


class _ChunkedNTXent(torch.autograd.Function):
    """NT-Xent loss and gradient, computed chunk by chunk in one reused (chunk_size, keys) buffer."""

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, keys: Tensor, partners: Tensor, own: int, temperature: float, chunk_size: int
    ) -> Tensor:
        count = len(anchors)
        loss = anchors.new_zeros(())
        grad_anchors, grad_keys = torch.empty_like(anchors), torch.zeros_like(keys)
        queries = anchors / temperature
        buffer = anchors.new_empty(min(chunk_size, count), len(keys))
        for start in range(0, count, chunk_size):
            chunk = slice(start, start + chunk_size)
            query, partner = queries[chunk], partners[chunk, None]
            scores = torch.mm(query, keys.T, out=buffer[: len(query)])
            scores.diagonal(own + start).fill_(-math.inf)
            top = scores.amax(1, keepdim=True)
            loss += (top - scores.gather(1, partner)).sum()
            total = scores.sub_(top).exp_().sum(1, keepdim=True)
            loss += total.log().sum()
            scores.scatter_add_(1, partner, -total)  # now total * (softmax - one-hot)
            total *= count
            torch.mm(scores, keys, out=grad_anchors[chunk]).div_(total * temperature)
            grad_keys.addmm_(scores.T, query / total)
        ctx.save_for_backward(grad_anchors, grad_keys)
        return loss / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_anchors, grad_keys = ctx.saved_tensors
        return grads[0] * grad_anchors, grads[0] * grad_keys, None, None, None, None
