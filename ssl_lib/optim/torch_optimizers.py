"""SGD and AdamW of torch, registered by name, with defaults for self-supervised training."""

from __future__ import annotations

from torch.optim import SGD, AdamW
from torch.optim.optimizer import ParamsT

from ssl_lib.registry import OPTIMIZERS

__all__ = ["adamw", "sgd"]


@OPTIMIZERS.register("sgd")
def sgd(params: ParamsT, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False) -> SGD:
    """SGD with momentum, as used by SimSiam and MoCo; see `torch.optim.SGD`.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate for a batch size of 256, >= 0.
        momentum: Momentum in [0, 1).
        weight_decay: L2 penalty, >= 0, added to the gradient.
        nesterov: Whether to use Nesterov momentum.

    Raises:
        ValueError: A value is out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    return SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


@OPTIMIZERS.register("adamw")
def adamw(
    params: ParamsT, lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> AdamW:
    """AdamW, as used by DINO, MAE and MoCo v3 with ViTs; see `torch.optim.AdamW`.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate for a batch size of 256, >= 0.
        weight_decay: Decoupled weight decay, >= 0, multiplied by the learning rate.
        betas: Decay rates of the moving averages of the gradient and its square, each in [0, 1).
        eps: Added to the square root of the second average, >= 0.

    Raises:
        ValueError: A value is out of range.
    """
    return AdamW(params, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
