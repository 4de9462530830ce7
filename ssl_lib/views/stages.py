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
        choice: Per image, the index of its operation in `operations`, or their number for none.
        value: Per image, the operation's parameter; 1 where it has none.
    """

    operations: tuple[Operation, ...]
    choice: Sequence[int]
    value: Sequence[float]

    @classmethod
    def of(cls, operations: Sequence[Operation], choice: Tensor, value: Tensor | None = None) -> Stage:
        """A stage from tensors (N,) on the CPU."""
        values = [1.0] * len(choice) if value is None else value.tolist()
        return cls(tuple(operations), choice.tolist(), values)

    @classmethod
    def single(cls, operation: Operation, mask: Tensor, value: Tensor | None = None) -> Stage:
        """A stage of one operation, for the images of `mask` (N,)."""
        return cls.of([operation], (~mask).long(), value)

    def part(self, images: slice) -> Stage:
        """The same for some of the images."""
        return Stage(self.operations, self.choice[images], self.value[images])

    @property
    def empty(self) -> bool:
        """Whether no image has an operation."""
        return min(self.choice) == len(self.operations)


def run_stages(stages: Sequence[Stage], images: Tensor) -> Tensor:
    """Applies the stages in turn.

    For each stage the batch is rearranged, where it has to be, so that the images of one operation are neighbours: on
    the CPU moving whole images is far cheaper than writing them back by index, and on CUDA nothing waits, as the host
    knows the counts.

    Args:
        stages: For these images.
        images: (N, C, H, W); used as scratch space.

    Returns:
        (N, C, H, W), in the order of `images`.
    """
    stages = [stage for stage in stages if not stage.empty]
    if not stages:
        return images
    kept = list(range(len(images)))  # the order of the images, and the move that keeps it
    order, moves, values = kept, list[list[int]](), list[list[float]]()
    for stage in stages:
        moves.append(sorted(kept, key=[stage.choice[image] for image in order].__getitem__))
        order = [order[place] for place in moves[-1]]
        values.append([stage.value[image] for image in order])
    moves.append(sorted(kept, key=order.__getitem__))
    moves_there = torch.tensor(moves).to(images.device, non_blocking=True)
    floats = images.dtype if images.is_floating_point() else torch.float32
    values_there = torch.tensor(values, dtype=floats).to(images.device, non_blocking=True)[..., None, None, None]
    spare = torch.empty_like(images)
    for stage, move, move_there, value in zip(stages, moves, moves_there, values_there, strict=False):
        if move != kept:
            images, spare = torch.index_select(images, 0, move_there, out=spare), images
        start = 0
        for number, operation in enumerate(stage.operations):
            count = stage.choice.count(number)
            if count:
                operation(images[start : start + count], value[start : start + count])
            start += count
    return images if moves[-1] == kept else torch.index_select(images, 0, moves_there[-1], out=spare)
