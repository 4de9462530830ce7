"""Which parameters are decayed and adapted, and which are not."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["check_optimizer", "layer_decay_groups", "param_groups", "transformer_layers"]

# Names of ours, timm's and DINO's vision transformers, and of torchvision's.
_BLOCK = re.compile(r"(?:^|\.)(?:blocks\.|encoder_layer_)(\d+)\.")
_STEM = re.compile(
    r"(?:^|\.)(?:(?:cls|class|dist|reg)_token|register_tokens|pos_embed|pos_embedding|patch_embed|conv_proj|norm_pre)\b"
)


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


def layer_decay_groups(module: nn.Module, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """The groups of `param_groups`, split by depth: a layer learns `decay` times as fast as the one above it.

    Source: BEiT (Bao et al. 2022, arXiv:2106.08254, appendix; unilm/beit/optim_factory.py), MAE (util/lr_decay.py):
    tokens, positions and patch embedding are layer 0, block i is layer i + 1, all else is the last, with scale 1.

    Args:
        module: A vision transformer, or a module around one, such as one with a head; with `decay` 1 any module.
        weight_decay: At least 0.
        decay: In (0, 1].

    Returns:
        Groups with "lr_scale", which `Schedule` multiplies their rates by.

    Raises:
        ValueError: A number is out of range, or the module has no plain sequence of transformer blocks.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer decay must lie in (0, 1], got {decay}")
    groups = param_groups(module, weight_decay)
    if decay == 1:
        return groups
    layers = transformer_layers(module)
    if layers is None:
        raise ValueError("layer decay needs a vision transformer with one sequence of blocks; 1 is for all networks")
    by_id = {id(parameter): layers[name] for name, parameter in module.named_parameters()}
    last = max(layers.values())
    split = []
    for group in groups:
        for layer in sorted({by_id[id(parameter)] for parameter in group["params"]}):
            own = [parameter for parameter in group["params"] if by_id[id(parameter)] == layer]
            split.append({**group, "params": own, "lr_scale": decay ** (last - layer)})
    return split


def transformer_layers(module: nn.Module) -> dict[str, int] | None:
    """The layer of each parameter of a vision transformer, as `layer_decay_groups` counts; None for other networks."""
    names = [name for name, _ in module.named_parameters()]
    blocks = {name: match for name in names if (match := _BLOCK.search(name))}
    if len({name[: match.start(1)] for name, match in blocks.items()}) != 1:  # none, or stages with blocks of their own
        return None
    last = max(int(match[1]) for match in blocks.values()) + 2
    rest = {name: 0 if _STEM.search(name) else last for name in names}
    return {**rest, **{name: int(match[1]) + 1 for name, match in blocks.items()}}
