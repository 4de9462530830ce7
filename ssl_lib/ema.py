"""The EMA teacher: a slowly moving copy of a student's parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

__all__ = ["EMATeacher"]

_DROPPING = (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, StochasticDepth)


class EMATeacher(nn.Module):
    """A copy of `parts`, applied one after the other, whose parameters follow the student's by a moving average.

    As in BYOL (deepmind-research/byol/byol_experiment.py) and DINO (dino/main_dino.py): only parameters are averaged;
    BatchNorm runs in training mode and keeps statistics of its own. Dropout and stochastic depth stay off in the
    teacher, its parameters never need a gradient and so never reach an optimizer.

    Args:
        *parts: The student's modules, e.g. backbone and projector; copied with their present weights.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        if not parts:
            raise ValueError("EMATeacher needs at least one module to copy")
        self.parts = nn.ModuleList(copy.deepcopy(part) for part in parts)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> EMATeacher:
        """Sets the mode of every layer but dropout and stochastic depth, which stay off."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _DROPPING) or hasattr(module, "drop_prob"):
                module.training = False  # of this module alone: there may be a BatchNorm inside
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Applies the parts in turn, without gradient."""
        out = images
        for part in self.parts:
            out = part(out)
        return out

    @torch.no_grad()
    def update(self, parts: Sequence[nn.Module], momentum: float) -> None:
        """Moves every parameter: `teacher = momentum * teacher + (1 - momentum) * student`.

        Args:
            parts: The student's modules, in the order given to the constructor.
            momentum: In [0, 1]; 1 leaves the teacher where it is.

        Raises:
            ValueError: The momentum is out of range, or the parts are not those that were copied.
        """
        self.check(parts, momentum)
        teacher: list[Tensor] = list(self.parameters())
        student: list[Tensor] = [parameter for part in parts for parameter in part.parameters()]
        torch._foreach_lerp_(teacher, student, 1.0 - momentum)

    def check(self, parts: Sequence[nn.Module], momentum: float) -> None:
        """Raises what `update` would, and changes nothing."""
        if isinstance(parts, nn.Module):
            raise TypeError("EMATeacher.update takes a list of the student's modules, such as [backbone, projector]")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"EMA momentum must lie in [0, 1], got {momentum}")
        own = [parameter.shape for parameter in self.parameters()]
        if own != [parameter.shape for part in parts for parameter in part.parameters()]:
            raise ValueError("the parts that an EMATeacher follows do not have the parameters of those it copied")
