"""EMA (momentum) teacher: an exponential moving average of a student's modules."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

__all__ = ["EMATeacher"]

_DROPPING = (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, StochasticDepth)


class EMATeacher(nn.Module):
    """Copy of the student's modules whose parameters are an exponential moving average of the student's parameters.

    As in BYOL (deepmind-research/byol/byol_experiment.py) and DINO (dino/main_dino.py), only parameters are averaged.
    BatchNorm runs in training mode and keeps its own statistics. Dropout and stochastic depth are always disabled in
    the teacher. Its parameters do not require gradients, so an optimizer never updates them.

    Args:
        *parts: The student's modules, e.g. backbone and projector, applied in sequence. They are copied with their
            current weights.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        if not parts:
            raise ValueError("EMATeacher needs at least one module to copy")
        self.parts = nn.ModuleList(copy.deepcopy(part) for part in parts)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> EMATeacher:
        """Sets training or evaluation mode, but keeps dropout and stochastic depth disabled."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _DROPPING) or hasattr(module, "drop_prob"):
                module.training = False  # not .eval(): the module may contain a BatchNorm
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Applies the parts in sequence, without gradient."""
        out = images
        for part in self.parts:
            out = part(out)
        return out

    @torch.no_grad()
    def update(self, parts: Sequence[nn.Module], momentum: float) -> None:
        """Updates every parameter: `teacher = momentum * teacher + (1 - momentum) * student`.

        Args:
            parts: The student's modules, in the order given to the constructor.
            momentum: EMA momentum in [0, 1]; 1 leaves the teacher unchanged.

        Raises:
            ValueError: The momentum is out of range, or the parameter shapes differ from the copied modules.
            TypeError: `parts` is a single module.
        """
        self.check(parts, momentum)
        teacher: list[Tensor] = list(self.parameters())
        student: list[Tensor] = [parameter for part in parts for parameter in part.parameters()]
        torch._foreach_lerp_(teacher, student, 1.0 - momentum)

    def check(self, parts: Sequence[nn.Module], momentum: float) -> None:
        """Raises the errors of `update` without changing anything."""
        if isinstance(parts, nn.Module):
            raise TypeError("EMATeacher.update takes a list of the student's modules, such as [backbone, projector]")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"EMA momentum must be in [0, 1], got {momentum}")
        own = [parameter.shape for parameter in self.parameters()]
        if own != [parameter.shape for part in parts for parameter in part.parameters()]:
            raise ValueError("the parts passed to EMATeacher do not have the same parameters as the modules it copied")
