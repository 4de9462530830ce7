"""Random application of operations to the images of a batch, without a loop over the images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

__all__ = ["Stage", "run_stages"]

Operation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """For each image of a batch, one of several operations, or none.

    Attributes:
        operations: Each takes images (n, C, H, W) and their values (n,), and returns the changed images. It may change
            them in place.
        choice: Per image, the index of its operation in `operations`; `len(operations)` for none.
        value: Per image, the parameter of its operation; 1 for an operation without a parameter.
        fusible: Whether the operations are elementwise (except for the mean of an image), so that adjacent stages can
            be compiled into one function.
    """

    operations: tuple[Operation, ...]
    choice: Sequence[int]
    value: Sequence[float]
    fusible: bool = False

    @classmethod
    def of(
        cls, operations: Sequence[Operation], choice: Tensor, value: Tensor | float = 1.0, fusible: bool = False
    ) -> Stage:
        """Creates a stage from tensors (N,) on the CPU; a single value is used for all images."""
        values = value.tolist() if isinstance(value, Tensor) else [value] * len(choice)
        return cls(tuple(operations), choice.tolist(), values, fusible)

    @classmethod
    def single(cls, operation: Operation, mask: Tensor, value: Tensor | float = 1.0, fusible: bool = False) -> Stage:
        """Creates a stage that applies one operation to the images selected by `mask` (N,)."""
        return cls.of([operation], (~mask).long(), value, fusible)

    def part(self, images: slice) -> Stage:
        """Returns the stage restricted to a slice of the images."""
        return replace(self, choice=self.choice[images], value=self.value[images])

    @property
    def empty(self) -> bool:
        """Whether no image gets an operation."""
        return min(self.choice) == len(self.operations)


def run_stages(stages: Sequence[Stage], images: Tensor, compiled: bool = False) -> Tensor:
    """Applies the stages one after the other.

    Args:
        stages: Stages for N images.
        images: (N, C, H, W). The tensor is overwritten.
        compiled: Whether adjacent fusible stages run as one compiled function. This is slower on the CPU.

    Returns:
        (N, C, H, W), in the order of `images`.
    """
    for fused, group in groupby(stages, key=lambda stage: compiled and stage.fusible):
        images = (_run_fused if fused else _run_grouped)(list(group), images)
    return images


def _run_grouped(stages: list[Stage], images: Tensor) -> Tensor:
    """Applies each operation only to the images that chose it.

    Before each stage the batch is permuted, if necessary, so that the images of one operation are contiguous. On the
    CPU, moving whole images is far cheaper than writing them back by index. On CUDA, there is no synchronization
    because the host knows the counts.
    """
    stages = [stage for stage in stages if not stage.empty]
    if not stages:
        return images
    identity = list(range(len(images)))  # the identity permutation
    order, moves, values = identity, list[list[int]](), list[list[float]]()
    for stage in stages:
        moves.append(sorted(identity, key=[stage.choice[image] for image in order].__getitem__))
        order = [order[place] for place in moves[-1]]
        values.append([stage.value[image] for image in order])
    moves.append(sorted(identity, key=order.__getitem__))
    moves_on_device = torch.tensor(moves).to(images.device, non_blocking=True)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    values_on_device = torch.tensor(values, dtype=dtype).to(images.device, non_blocking=True)
    spare = torch.empty_like(images)
    for stage, move, move_on_device, value in zip(stages, moves, moves_on_device, values_on_device, strict=False):
        if move != identity:
            images, spare = torch.index_select(images, 0, move_on_device, out=spare), images
        start = 0
        for number, operation in enumerate(stage.operations):
            count = stage.choice.count(number)
            if count:
                chosen = images[start : start + count]
                changed = operation(chosen, value[start : start + count])
                if changed is not chosen:  # not an in-place operation
                    chosen.copy_(changed)
            start += count
    return images if moves[-1] == identity else torch.index_select(images, 0, moves_on_device[-1], out=spare)


def _run_fused(stages: list[Stage], images: Tensor) -> Tensor:
    """Applies every operation to every image and selects the results: more arithmetic, but far less memory traffic."""
    table = torch.tensor([[stage.choice, stage.value] for stage in stages], dtype=torch.float32)  # (stages, 2, N)
    choices, values = table.to(images.device, non_blocking=True).unbind(1)
    operations = tuple(stage.operations for stage in stages)
    return _compiled_choose()(images, choices.unbind(), values.unbind(), operations)


def _choose(
    images: Tensor, choices: Sequence[Tensor], values: Sequence[Tensor], operations: Sequence[Sequence[Operation]]
) -> Tensor:
    """Applies to each image (N, C, H, W), stage by stage, the operation with the index in `choices` (N,)."""
    for choice, value, candidates in zip(choices, values, operations, strict=True):
        chosen = images
        for number, operation in enumerate(candidates):
            chosen = torch.where((choice == number).view(-1, 1, 1, 1), operation(images.clone(), value), chosen)
        images = chosen
    return images


@functools.cache
def _compiled_choose() -> Callable[..., Tensor]:
    return torch.compile(_choose)
