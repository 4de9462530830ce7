"""Which parameters are decayed and adapted, and which are not."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["check_optimizer", "param_groups"]


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sorts a module's trainable parameters into a decayed and an undecayed group.

    Source: `get_params_groups` of dino/utils.py, and the 1-d rule of barlowtwins/main.py. Biases and parameters with at
    most one dimension (the scales and shifts of norms) get neither weight decay nor LARS adaptation; all others,
    a ViT's tokens and position embedding included, get both.

    Args:
        module: Its shared parameters count once; those with `requires_grad=False` are left out.
        weight_decay: At least 0.

    Returns:
        Groups for any torch optimizer, with the keys "params", "weight_decay" and "adapt" (read by
        `LARS` alone); a group without parameters is left out.

    Raises:
        ValueError: The weight decay is negative, or nothing is trainable.
    """
    if not weight_decay >= 0.0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_plain = parameter.ndim <= 1 or name.rpartition(".")[2] == "bias"
            (plain if is_plain else decayed).append(parameter)
    if not decayed and not plain:
        raise ValueError(f"{type(module).__name__} has no trainable parameter for an optimizer")
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay, "adapt": True},
        {"params": plain, "weight_decay": 0.0, "adapt": False},
    ]
    return [group for group in groups if group["params"]]


def check_optimizer(optimizer: Optimizer, method: nn.Module) -> None:
    """Refuses an optimizer that would leave trainable parameters as they are, or move others.

    Raises:
        ValueError: The message says which.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own = {id(parameter) for parameter in method.parameters()}
    left_out = [name for name, p in method.named_parameters() if p.requires_grad and id(p) not in held]
    cure = "build it from method.param_groups(weight_decay)"
    if held - own:
        raise ValueError(f"the optimizer holds {len(held - own)} parameters that are not the method's: {cure}")
    if left_out:
        raise ValueError(
            f"the optimizer leaves out {len(left_out)} trainable parameters of the method, such as {left_out[0]}: "
            f"{cure}, or freeze them with requires_grad_(False)"
        )
