"""LARS optimizer: momentum SGD with layer-wise adaptive learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ssl_lib.distributed import local
from ssl_lib.optim.grad_norms import by_device, norms
from ssl_lib.registry import OPTIMIZERS

__all__ = ["LARS"]


@OPTIMIZERS.register("lars")
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), as in barlowtwins/main.py, vicreg and moco-v3.

    For a parameter `p` with gradient `g`, momentum buffer `mu` and trust coefficient `eta`:

        d  = g + weight_decay * p
        d  = d * eta * |p| / |d|        if both norms are above 0, also without weight decay
        mu = momentum * mu + d
        p  = p - lr * mu

    A group with `adapt=False` skips the second line; `ssl_lib.optim.param_groups` sets it for biases and norm layers.
    With `clip_lr` the factor in the second line is the clipped LARC rule of NVIDIA apex (apex/parallel/LARC.py) and
    solo-learn (solo/utils/lars.py), which solo-learn's CIFAR recipes need:
    `min(eta * |p| / (|g| + weight_decay * |p| + eps) / lr, 1)` if both norms are above 0, else `d = g`.

    The step works in place and never syncs with the device. It overwrites the gradients: read them before the step.

    Args:
        params: Parameters or parameter groups. Group keys are the arguments below and `adapt` (bool, default True).
        lr: Learning rate, >= 0; it may change at every step.
        momentum: Momentum in [0, 1).
        weight_decay: Weight decay, >= 0.
        trust_coefficient: Trust coefficient `eta`, > 0.
        clip_lr: Whether to use the clipped LARC rule.
        eps: Added to the denominator of the LARC rule only, >= 0.

    Raises:
        ValueError: A value is out of range, or a gradient is sparse (raised by `step`).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        *,
        clip_lr: bool = False,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "clip_lr": clip_lr,
            "eps": eps,
            "adapt": True,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Validates and adds a parameter group; also called by the constructor."""
        group = self.defaults | param_group
        for key in ("lr", "weight_decay", "eps"):
            if not group[key] >= 0.0:
                raise ValueError(f"LARS: {key} must be at least 0, got {group[key]}")
        if not 0.0 <= group["momentum"] < 1.0:
            raise ValueError(f"LARS: momentum must be in [0, 1), got {group['momentum']}")
        if not group["trust_coefficient"] > 0.0:
            raise ValueError(f"LARS: trust_coefficient must be above 0, got {group['trust_coefficient']}")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Performs one update; parameters without a gradient are left unchanged.

        Args:
            closure: Recomputes the loss and its gradients, as in every torch optimizer.

        Returns:
            The loss returned by the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for params, grads in by_device(group["params"]):
                self._update(params, grads, group)
        return loss

    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        buffers = [local(self._momentum_buffer(p)) for p in params]
        ratios = _decay_and_ratios(params, grads, group)
        params, grads = [local(p) for p in params], [local(g) for g in grads]
        torch._foreach_mul_(buffers, group["momentum"])
        if ratios is None:
            torch._foreach_add_(buffers, grads)
        else:
            torch._foreach_addcmul_(buffers, grads, ratios.unbind())
        torch._foreach_add_(params, buffers, alpha=-group["lr"])

    def _momentum_buffer(self, param: Tensor) -> Tensor:
        state: dict[str, Tensor] = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        return state["momentum_buffer"]


def _decay_and_ratios(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> Tensor | None:
    """Adds weight decay to the gradients; returns their factors (T,), or None if the group is not adapted."""
    weight_decay, adapt, clip_lr = group["weight_decay"], group["adapt"], group["clip_lr"]
    weight_norms = norms(params) if adapt else None
    plain_norms = norms(grads) if adapt and clip_lr else None
    if weight_decay:
        torch._foreach_add_(grads, params, alpha=weight_decay)
    if weight_norms is None:
        return None
    if plain_norms is None:
        update_norms = norms(grads)
        ratios = group["trust_coefficient"] * weight_norms / update_norms
        return torch.where((weight_norms > 0) & (update_norms > 0), ratios, 1.0)
    denominator = plain_norms + weight_decay * weight_norms + group["eps"]
    ratios = (group["trust_coefficient"] * weight_norms / denominator / group["lr"]).clamp_max(1.0)
    # The LARC rule does not decay weights with a zero gradient. Factor 0, because d is only the weight decay there.
    return torch.where(weight_norms > 0, torch.where(plain_norms > 0, ratios, 0.0), 1.0)
