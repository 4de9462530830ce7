"""Operations that each image of a batch takes or leaves, run without a loop over the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Stage", "run_stages"]

Operation = Callable[[Tensor, Tensor], object]


@dataclass(frozen=True)
class Stage:
    """For each image of a batch, one of several operations or none.

    Attributes:
        operations: Each takes images (n, C, H, W) and their values (n, 1, 1, 1), and changes the images in place.
        choice: Per image (N,), the index of its operation in `operations`, or their number for none.
        value: Per image (N,), the operation's parameter; ones where it has none.
    """

    operations: tuple[Operation, ...]
    choice: Tensor
    value: Tensor

    @classmethod
    def single(cls, operation: Operation, mask: Tensor, value: Tensor | None = None) -> Stage:
        """A stage of one operation, for the images of `mask` (N,)."""
        value = torch.ones(len(mask), dtype=torch.float64) if value is None else value
        return cls((operation,), (~mask).long(), value)

    def part(self, images: slice) -> Stage:
        """The same for some of the images."""
        return Stage(self.operations, self.choice[images], self.value[images])

    @property
    def empty(self) -> bool:
        """Whether no image has an operation."""
        return not (self.choice < len(self.operations)).any()


def run_stages(stages: Sequence[Stage], images: Tensor) -> Tensor:
    """Applies the stages in turn.

    For each stage the batch is rearranged, where it has to be, so that the images of one operation are neighbours: on
    the CPU moving whole images is far cheaper than writing them back by index, and on CUDA nothing waits, as the host
    knows the counts.

    Args:
        stages: On the CPU.
        images: (N, C, H, W), floats; used as scratch space.

    Returns:
        (N, C, H, W), in the order of `images`.
    """
    stages = [stage for stage in stages if not stage.empty]
    if not stages:
        return images
    kept = torch.arange(len(images))  # the order of the images, and what keeps it
    order, moves, values = kept, list[Tensor](), []
    for stage in stages:
        move = stage.choice[order].argsort(stable=True)
        moves.append(move)
        order = order[move]
        values.append(stage.value[order])
    moves.append(order.argsort())
    needed = [not torch.equal(move, kept) for move in moves]
    moves_there = torch.stack(moves).to(images.device, non_blocking=True)
    values_there = torch.stack(values).to(images, non_blocking=True).view(len(stages), -1, 1, 1, 1)
    spare = torch.empty_like(images) if any(needed) else images
    for stage, need, move, value in zip(stages, needed, moves_there, values_there, strict=False):
        if need:
            images, spare = torch.index_select(images, 0, move, out=spare), images
        start = 0
        counts = stage.choice.bincount(minlength=len(stage.operations))
        for operation, count in zip(stage.operations, counts.tolist(), strict=False):
            if count:
                operation(images[start : start + count], value[start : start + count])
            start += count
    return torch.index_select(images, 0, moves_there[-1], out=spare) if needed[-1] else images
