"""Parameter groups for optimizers: weight decay exclusions and layer-wise learning rate decay."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["check_optimizer", "layer_decay_groups", "param_groups", "transformer_layers"]

# Parameter names in the vision transformers of ssl_lib, timm, DINO and torchvision.
_BLOCK = re.compile(r"(?:^|\.)(?:blocks\.|encoder_layer_)(\d+)\.")
_STEM = re.compile(
    r"(?:^|\.)(?:(?:cls|class|dist|reg)_token|register_tokens|pos_embed|pos_embedding|patch_embed|conv_proj|norm_pre)\b"
)


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits a module's trainable parameters into one group with and one group without weight decay.

    Source: `get_params_groups` of dino/utils.py, and the 1-d rule of barlowtwins/main.py. Biases and parameters with at
    most one dimension (the scales and shifts of norm layers) get neither weight decay nor LARS adaptation. All others
    get both, including the tokens and position embedding of a ViT.

    Args:
        module: Module to optimize. Shared parameters are listed once; frozen parameters are left out.
        weight_decay: Weight decay of the first group, >= 0.

    Returns:
        Groups for any torch optimizer, with the keys "params", "weight_decay" and "adapt" (used only by `LARS`). Empty
        groups are left out.

    Raises:
        ValueError: The weight decay is negative, or the module has no trainable parameter.
    """
    if not weight_decay >= 0.0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    decayed: list[Tensor] = []
    undecayed: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_bias_or_norm = parameter.ndim <= 1 or name.rpartition(".")[2] == "bias"
            (undecayed if is_bias_or_norm else decayed).append(parameter)
    if not decayed and not undecayed:
        raise ValueError(f"{type(module).__name__} has no trainable parameter to optimize")
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay, "adapt": True},
        {"params": undecayed, "weight_decay": 0.0, "adapt": False},
    ]
    return [group for group in groups if group["params"]]


def check_optimizer(optimizer: Optimizer, method: nn.Module) -> None:
    """Checks that an optimizer contains all trainable parameters of a method and no others.

    Raises:
        ValueError: Trainable parameters are missing, or the optimizer contains other parameters.
    """
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    expected = {id(parameter) for parameter in method.parameters()}
    missing = [name for name, p in method.named_parameters() if p.requires_grad and id(p) not in optimized]
    fix = "build it from method.param_groups(weight_decay)"
    if optimized - expected:
        extra = len(optimized - expected)
        raise ValueError(f"the optimizer contains {extra} parameters that are not the method's: {fix}")
    if missing:
        raise ValueError(
            f"the optimizer leaves out {len(missing)} trainable parameters of the method, such as {missing[0]}: "
            f"{fix}, or freeze them with requires_grad_(False)"
        )


def layer_decay_groups(module: nn.Module, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups with layer-wise learning rate decay: each layer's rate is `decay` times the next layer's.

    Source: BEiT (Bao et al. 2022, arXiv:2106.08254, appendix; unilm/beit/optim_factory.py), MAE (util/lr_decay.py).
    Tokens, position and patch embeddings are layer 0, block i is layer i + 1. All other parameters are in the last
    layer, which has scale 1. Weight decay is as in `param_groups`.

    Args:
        module: A vision transformer, alone or inside another module, e.g. with a head. Any module if `decay` is 1.
        weight_decay: Weight decay, >= 0.
        decay: Factor per layer, in (0, 1].

    Returns:
        Groups with the key "lr_scale", by which `Schedule` multiplies the learning rate.

    Raises:
        ValueError: A value is out of range, or the module does not have exactly one sequence of transformer blocks.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer decay must be in (0, 1], got {decay}")
    groups = param_groups(module, weight_decay)
    if decay == 1:
        return groups
    layers = transformer_layers(module)
    if layers is None:
        raise ValueError("layer decay needs a vision transformer with one sequence of blocks; use 1 for other networks")
    by_id = {id(parameter): layers[name] for name, parameter in module.named_parameters()}
    last = max(layers.values())
    split = []
    for group in groups:
        for layer in sorted({by_id[id(parameter)] for parameter in group["params"]}):
            params = [parameter for parameter in group["params"] if by_id[id(parameter)] == layer]
            split.append({**group, "params": params, "lr_scale": decay ** (last - layer)})
    return split


def transformer_layers(module: nn.Module) -> dict[str, int] | None:
    """Returns the layer index of each parameter of a vision transformer by name; None for other networks."""
    names = [name for name, _ in module.named_parameters()]
    blocks = {name: match for name in names if (match := _BLOCK.search(name))}
    if len({name[: match.start(1)] for name, match in blocks.items()}) != 1:  # no blocks, or blocks in several stages
        return None
    last = max(int(match[1]) for match in blocks.values()) + 2
    rest = {name: 0 if _STEM.search(name) else last for name in names}
    return {**rest, **{name: int(match[1]) + 1 for name, match in blocks.items()}}
