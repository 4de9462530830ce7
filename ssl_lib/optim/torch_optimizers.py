"""torch's own optimizers under their names, with the defaults of self-supervised training."""

from __future__ import annotations

from torch.optim import SGD, AdamW
from torch.optim.optimizer import ParamsT

from ssl_lib.registry import OPTIMIZERS

__all__ = ["adamw", "sgd"]


@OPTIMIZERS.register("sgd")
def sgd(params: ParamsT, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False) -> SGD:
    """SGD with momentum, as SimSiam and MoCo use it; see `torch.optim.SGD`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate for a batch of 256, at least 0.
        momentum: In [0, 1).
        weight_decay: At least 0; added to the gradient.
        nesterov: Whether the gradient is taken after the momentum's move.

    Raises:
        ValueError: A value is out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    return SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


@OPTIMIZERS.register("adamw")
def adamw(
    params: ParamsT, lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> AdamW:
    """AdamW, as DINO, MAE and MoCo v3's ViTs use it; see `torch.optim.AdamW`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate for a batch of 256, at least 0.
        weight_decay: At least 0; apart from the gradient, times the learning rate.
        betas: Decay of the averages of the gradient and of its square, each in [0, 1).
        eps: Added to the root of the latter, at least 0.

    Raises:
        ValueError: A value is out of range.
    """
    return AdamW(params, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
