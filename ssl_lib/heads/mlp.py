"""MLP builder for projectors and predictors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

__all__ = ["mlp"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
_NORMS = ("none", "affine", "scale", "plain")


def mlp(
    dims: Sequence[int],
    *,
    activation: Literal["relu", "gelu"] = "relu",
    norm: bool = True,
    bias: bool = True,
    last_bias: bool = True,
    last_norm: Literal["none", "affine", "scale", "plain"] = "none",
    init_std: float | None = None,
) -> nn.Sequential:
    """Builds an MLP: Linear, BatchNorm and activation per hidden layer, then a last Linear with optional BatchNorm.

    Maps (N, dims[0]) to (N, dims[-1]). The heads of the reference implementations, for a backbone of width F:

    - SimCLR (simclr/tf2/model.py): `mlp([F, F, F, 128], bias=False, last_bias=False, last_norm="scale",
      init_std=0.01)`
    - BYOL (byol/utils/networks.py): `mlp([F, 4096, 256], last_bias=False)`; the predictor has input width 256
    - SimSiam (simsiam/builder.py): `mlp([F, F, F, 2048], bias=False, last_bias=False, last_norm="plain")`;
      the predictor is `mlp([2048, 512, 2048], bias=False)`
    - Barlow Twins (barlowtwins/main.py): `mlp([F, 8192, 8192, 8192], bias=False, last_bias=False)`
    - VICReg (vicreg/main_vicreg.py): `mlp([F, 8192, 8192, 8192], last_bias=False)`
    - DINO (dino/vision_transformer.py): `mlp([F, 2048, 2048, 256], activation="gelu", norm=False,
      init_std=0.02)`

    Args:
        dims: Layer widths from input to output, at least two.
        activation: Activation after each hidden layer.
        norm: Whether to put a BatchNorm between each hidden Linear and its activation.
        bias: Whether the hidden Linear layers have a bias.
        last_bias: Whether the last Linear layer has a bias.
        last_norm: BatchNorm after the last layer: "none", "affine" (scale and shift), "scale" (scale only; the shift is
            a parameter frozen at 0 because SyncBatchNorm requires one), or "plain" (neither).
        init_std: Standard deviation, > 0, of normally distributed initial weights, with zero biases; None keeps torch's
            default initialization. DINO truncates at 100 standard deviations, which has no effect and is left out.

    Raises:
        ValueError: An argument is out of range or unknown.
    """
    _check(dims, activation, last_norm, init_std)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(dims[:-1]):
        layers.append(nn.Linear(fan_in, fan_out, bias=bias))
        if norm:
            layers.append(nn.BatchNorm1d(fan_out))
        layers.append(_ACTIVATIONS[activation]())
    layers.append(nn.Linear(dims[-2], dims[-1], bias=last_bias))
    if last_norm != "none":
        batch_norm = nn.BatchNorm1d(dims[-1], affine=last_norm != "plain")
        if last_norm == "scale":
            batch_norm.bias.requires_grad_(False)
        layers.append(batch_norm)
    if init_std is not None:
        _init_normal(layers, init_std)
    return nn.Sequential(*layers)


def _init_normal(layers: Iterable[nn.Module], std: float) -> None:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _check(dims: Sequence[int], activation: str, last_norm: str, init_std: float | None) -> None:
    if len(dims) < 2 or min(dims) < 1:
        raise ValueError(f"dims must contain at least two positive widths, input and output; got {list(dims)}")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
    if last_norm not in _NORMS:
        raise ValueError(f"last_norm must be one of {', '.join(_NORMS)}, got {last_norm!r}")
    if init_std is not None and not init_std > 0:
        raise ValueError(f"init_std must be positive, or None for torch's default initialization; got {init_std}")
