"""Operations that each image of a batch takes or leaves, run without a loop over the images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

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
        fusible: Whether the operations work pixel by pixel (but for an image's mean), so that those of neighboring
            stages can be compiled into one.
    """

    operations: tuple[Operation, ...]
    choice: Sequence[int]
    value: Sequence[float]
    fusible: bool = False

    @classmethod
    def of(
        cls, operations: Sequence[Operation], choice: Tensor, value: Tensor | None = None, fusible: bool = False
    ) -> Stage:
        """A stage from tensors (N,) on the CPU."""
        values = [1.0] * len(choice) if value is None else value.tolist()
        return cls(tuple(operations), choice.tolist(), values, fusible)

    @classmethod
    def single(cls, operation: Operation, mask: Tensor, value: Tensor | None = None, fusible: bool = False) -> Stage:
        """A stage of one operation, for the images of `mask` (N,)."""
        return cls.of([operation], (~mask).long(), value, fusible)

    def part(self, images: slice) -> Stage:
        """The same for some of the images."""
        return replace(self, choice=self.choice[images], value=self.value[images])

    @property
    def empty(self) -> bool:
        """Whether no image has an operation."""
        return min(self.choice) == len(self.operations)


def run_stages(stages: Sequence[Stage], images: Tensor, compiled: bool = False) -> Tensor:
    """Applies the stages in turn.

    Args:
        stages: For these images.
        images: (N, C, H, W); used as scratch space.
        compiled: Whether neighboring stages that are fusible run as one compiled function; on the CPU that is slower.

    Returns:
        (N, C, H, W), in the order of `images`.
    """
    for fused, group in groupby(stages, key=lambda stage: compiled and stage.fusible):
        images = (_run_fused if fused else _run_grouped)(list(group), images)
    return images


def _run_grouped(stages: list[Stage], images: Tensor) -> Tensor:
    """Each operation on the images that chose it.

    For each stage the batch is rearranged, where it has to be, so that the images of one operation are neighbors: on
    the CPU moving whole images is far cheaper than writing them back by index, and on CUDA nothing waits, as the host
    knows the counts.
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


def _run_fused(stages: list[Stage], images: Tensor) -> Tensor:
    """All operations on all images, of which each keeps its own: more arithmetic and far fewer trips to memory."""
    table = torch.tensor([[stage.choice, stage.value] for stage in stages], dtype=torch.float32)  # (stages, 2, N)
    choices, values = table.to(images.device, non_blocking=True)[..., None, None, None].unbind(1)
    operations = tuple(stage.operations for stage in stages)
    return _compiled_choose()(images, choices.unbind(), values.unbind(), operations)


def _choose(
    images: Tensor, choices: Sequence[Tensor], values: Sequence[Tensor], operations: Sequence[Sequence[Operation]]
) -> Tensor:
    """For each stage, what each image (N, C, H, W) chose (N, 1, 1, 1) of its operations."""
    for choice, value, choosable in zip(choices, values, operations, strict=True):
        chosen = images
        for number, operation in enumerate(choosable):
            changed = images.clone()
            operation(changed, value)
            chosen = torch.where(choice == number, changed, chosen)
        images = chosen
    return images


@functools.cache
def _compiled_choose() -> Callable[..., Tensor]:
    return torch.compile(_choose)
