"""NCE loss of PIRL and NPID: identifies an image's row in a memory bank among the rows of other images."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lib.distributed import gather
from ssl_lib.losses._common import check_pair, check_positive, upcast, without_autocast
from ssl_lib.memory import FeatureBank, Memory
from ssl_lib.types import BatchRandom
from ssl_lib.utils.rows import unit_rows

__all__ = ["PIRLLoss"]

_EPS = torch.finfo(torch.float32).eps
"""Added to the denominators, at any precision, as in the reference."""


class PIRLLoss(Memory):
    """Noise-contrastive estimation against a memory bank with a row per image, for an image and a transformed version.

    Sources: Misra and van der Maaten 2020 (arXiv:1912.01991, equations 4 and 5); Wu et al. 2018 (arXiv:1805.01978,
    equations 5 to 8), for one view; facebookresearch/vissl, vissl/losses/nce_loss.py. With M images, K negatives and
    similarities s to rows of the bank, P = exp(s / T) / Z is the probability of an image, and the loss of one embedding
    is -ln(P+ / (P+ + K / M + eps)) - sum over the negatives of ln((K / M) / (P- + K / M + eps)), eps = 1.2e-7.

    The bank is part of the loss. It follows the embeddings of the images, not of the transformed versions, and changes
    after the update.

    Args:
        size: Number of images M, at least 2.
        dim: Width D of the embeddings.
        temperature: T, > 0.
        momentum: Weight of a bank's old row in its update, in [0, 1).
        weight: Weight of the transformed version, in [0, 1]; the image has `1 - weight`. 0 is NPID.
        num_negatives: Number of negatives K, at least 1; if it is M - 1 or more, all other images are negatives.
        normalizer: Z, > 0; None sets it in the first update, to M times the mean of exp(s / T).
        kind: "nce", or "cross_entropy" for the cross-entropy of the positive among the negatives, without Z (InfoNCE).

    Raises:
        ValueError: An argument is out of range.
    """

    log_normalizer: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.5,
        num_negatives: int = 32000,
        normalizer: float | None = None,
        kind: Literal["nce", "cross_entropy"] = "nce",
    ) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_positive("normalizer", 1.0 if normalizer is None else normalizer)
        if size < 2 or num_negatives < 1 or not 0 <= weight <= 1 or kind not in ("nce", "cross_entropy"):
            raise ValueError(
                "size must be at least 2, num_negatives at least 1, weight in [0, 1] and kind nce or cross_entropy, "
                f"got {size}, {num_negatives}, {weight} and {kind!r}"
            )
        self.temperature, self.weight, self.kind = temperature, weight, kind
        self.normalizer, self.num_negatives = normalizer, min(num_negatives, size - 1)
        self.bank = FeatureBank(size, dim, momentum)
        self.register_buffer("log_normalizer", torch.zeros(()))
        self._known = False  # on the host, so that no step waits for the device

    def forward(
        self, z_image: Tensor, z_transformed: Tensor | None, indices: Tensor, negatives: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of embeddings (N, D); rows need not be normalized.

        Args:
            z_image: Embeddings of the images.
            z_transformed: Embeddings of their transformed versions; None if their weight is 0.
            indices: Positions of the images in the data set (N,), int64.
            negatives: Positions of the negatives, int64. (K,) is shared by the batch, and an image is not its own
                negative. (N, K) is used as it is. None takes all other images, or draws `num_negatives` with torch's
                default generator, differently in every process; methods draw from `Views.random`.

        Returns:
            Scalar >= 0, averaged over this process's images.

        Raises:
            ValueError: The shapes do not match, or a transformed version is missing.
        """
        views = [(z_image, 1 - self.weight)]
        if self.weight > 0:
            if z_transformed is None:
                raise ValueError(f"z_transformed may only be None if weight is 0, got weight {self.weight}")
            check_pair(z_image, z_transformed, ("z_image", "z_transformed"), min_batch=1)
            views.insert(0, (z_transformed, self.weight))  # the first one sets Z
        check_pair(z_image, z_image, ("z_image", "z_image"), min_batch=1)
        if indices.shape != z_image.shape[:1]:
            raise ValueError(f"indices must have shape ({len(z_image)},), got {tuple(indices.shape)}")
        with without_autocast(z_image):
            scores = [self._logits(z, indices, negatives) for z, _ in views]
            means = scores[0].detach().logsumexp(1) - (scores[0] != -math.inf).sum(1).to(scores[0]).log()
            self.collect(upcast(z_image)[0], indices, means)
            loss = self._nce if self.kind == "nce" else _cross_entropy
            log_z = self._log_z(means) if self.kind == "nce" else means
            return torch.stack([weight * loss(x, log_z) for x, (_, weight) in zip(scores, views, strict=True)]).sum()

    def draw(self, random: BatchRandom) -> Tensor | None:
        """Draws the negatives (K,) of an update, the same for all its images; None if they are all other images."""
        size = len(self.bank.rows)
        return None if self.num_negatives == size - 1 else (random.shared(self.num_negatives) * size).long()

    @property
    def chance(self) -> float:
        """The loss if all similarities are equal; that of NCE is for a Z that fits them."""
        count = self.num_negatives
        return math.log(count + 1) + (count * math.log1p(1 / count) if self.kind == "nce" else 0)

    def update(self, *rows: Tensor) -> None:
        """Moves the bank's rows toward the images' embeddings, and sets Z in the first update."""
        z_image, indices, means = rows
        self.bank.update(z_image, indices)
        if not self._known:
            self.log_normalizer.copy_(self._estimate(means))
            self._known = True

    def get_extra_state(self) -> Tensor:
        """Whether Z has been set."""
        return torch.tensor(float(self._known))

    def set_extra_state(self, state: Tensor) -> None:
        """Restores whether Z has been set."""
        self._known = bool(state)

    def _log_z(self, means: Tensor) -> Tensor:
        if self.normalizer is not None:
            return means.new_tensor(self.normalizer).log()
        return self.log_normalizer if self._known else self._estimate(gather(means))

    def _estimate(self, means: Tensor) -> Tensor:
        """Log of M times the mean of exp(s / T), from the logs of each image's mean (N,)."""
        return means.logsumexp(0) + math.log(len(self.bank.rows) / len(means))

    def _logits(self, z: Tensor, indices: Tensor, negatives: Tensor | None) -> Tensor:
        """Similarities divided by T with the own row and the negatives (N, 1 + K); -inf leaves a negative out."""
        z, rows = upcast(unit_rows(upcast(z)[0]), self.bank.rows)
        own = (z * rows[indices]).sum(1, keepdim=True)
        if negatives is None:
            negatives = torch.arange(len(rows), device=z.device)
            if self.num_negatives < len(rows) - 1:
                negatives = torch.randint(len(rows), (self.num_negatives,), device=z.device)
        negatives = negatives.to(z.device, non_blocking=True)
        if negatives.ndim == 2:
            others = torch.einsum("nd,nkd->nk", z, rows[negatives])
        else:
            others = (z @ rows[negatives].T).masked_fill(negatives == indices[:, None], -math.inf)
        return torch.cat((own, others), 1) / self.temperature

    def _nce(self, logits: Tensor, log_z: Tensor) -> Tensor:
        """NCE of logits (N, 1 + K), computed with logarithms, so that no exponential overflows."""
        left = logits[:, 1:] != -math.inf
        noise = left.sum(1, keepdim=True).to(logits) / len(self.bank.rows)  # K / M
        odds = logits - log_z.to(logits) - (noise + _EPS).log()  # ln(P / (K / M + eps))
        negatives = ((noise + _EPS) / noise).log() - F.logsigmoid(-odds[:, 1:])
        return (negatives.masked_fill(~left, 0).sum(1) - F.logsigmoid(odds[:, 0])).mean()


def _cross_entropy(logits: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
