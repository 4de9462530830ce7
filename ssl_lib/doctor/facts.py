"""What a run says of itself, beside its figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Facts"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules need to know of a run; None where it does not apply or is not known.

    Attributes:
        total_steps: Optimizer updates of the whole run.
        steps_per_epoch: Updates of an epoch.
        rows: Embeddings that the figures are of.
        embedding_dim: Width of the embeddings.
        prototypes: Number of prototypes.
        weight_rms: Root mean square of the weights before the first update.
        chance_loss: The loss of embeddings that tell nothing of the images, as the method declares it.
    """

    total_steps: int
    steps_per_epoch: int
    rows: int | None = None
    embedding_dim: int | None = None
    prototypes: int | None = None
    weight_rms: float | None = None
    chance_loss: float | None = None
