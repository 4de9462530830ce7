"""Memories: buffers that change once per optimizer update, such as queues, banks and centers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lib.distributed import joined
from ssl_lib.utils.rows import unit_rows

__all__ = ["FeatureBank", "FeatureQueue", "Memory", "check_memories", "memories"]


class Memory(nn.Module, ABC):
    """Part of a method whose buffers change once per optimizer update.

    The method calls `collect` in its forward pass. After the optimizer's step, the trainer calls `commit`; if the
    update was skipped, it calls `rollback`. A hand-written training loop calls `commit` after `optimizer.step()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._collected: list[tuple[Tensor, ...]] = []  # of each micro-batch

    def collect(self, *rows: Tensor) -> None:
        """Keeps tensors (N, ...), one row per image of the batch, for `update`; in eval mode it does nothing."""
        if self.training:
            self._collected.append(tuple(x.detach() for x in rows))

    @abstractmethod
    def update(self, *rows: Tensor) -> None:
        """Changes the buffers.

        Args:
            *rows: What was collected, joined over the micro-batches and processes, in the order of the joined batch.
        """

    @torch.no_grad()
    def commit(self) -> None:
        """Updates the buffers with all rows collected since the last call; all processes must call it together."""
        if self._collected:
            rows = [self.join(parts) for parts in zip(*self._collected, strict=True)]
            self.rollback()
            self.update(*rows)

    def rollback(self) -> None:
        """Discards the collected rows."""
        self._collected.clear()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Joins the tensors that the micro-batches of all processes have collected."""
        return joined(torch.cat(tuple(parts)))

    def check_data(self, num_images: int) -> None:
        """Checks that the memory fits a data set of `num_images` images.

        Raises:
            ValueError: It does not; the message names the largest valid size.
        """


class FeatureQueue(Memory):
    """The most recent embeddings, first in, first out, as negatives or neighbors (MoCo, He et al. 2020, section 3.2).

    Args:
        size: Number of rows K.
        dim: Width D of the embeddings.

    Attributes:
        rows: (K, D), unit length, random at first. The rows of an update replace the oldest ones.

    Raises:
        ValueError: A number is not positive.
    """

    rows: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim of a queue must be positive, got {size} and {dim}")
        self.register_buffer("rows", unit_rows(torch.randn(size, dim)))
        self._count = 0  # on the host, so that no update waits for the device

    @property
    def full(self) -> bool:
        """Whether every random row has been replaced."""
        return self._count >= len(self.rows)

    def update(self, *rows: Tensor) -> None:
        """Replaces the oldest rows by new embeddings (N, D), normalized to unit length."""
        (new,) = rows
        size, start = len(self.rows), self._count + max(0, len(new) - len(self.rows))
        kept = unit_rows(new[-size:]).to(self.rows)
        places = torch.arange(start, start + len(kept)).remainder_(size).to(self.rows.device, non_blocking=True)
        self.rows.index_copy_(0, places, kept)
        self._count += len(new)

    def nearest(self, x: Tensor) -> Tensor:
        """Returns the row with the largest cosine similarity to each row of x: (N, D) -> (N, D), without gradient."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self.rows[(unit_rows(x.to(self.rows)) @ self.rows.T).argmax(1)]

    def check_data(self, num_images: int) -> None:
        """Refuses a queue that would hold several embeddings of every image."""
        if len(self.rows) > num_images:
            raise ValueError(
                f"a queue of {len(self.rows)} embeddings is larger than the data set of {num_images} images: set "
                f"queue_size to at most {num_images}"
            )

    def get_extra_state(self) -> Tensor:
        """The number of embeddings received so far."""
        return torch.tensor(self._count)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the number of embeddings received so far."""
        self._count = int(state)


class FeatureBank(Memory):
    """One embedding per image of the data set, by index (Wu et al. 2018, arXiv:1805.01978, section 3.1).

    Args:
        num_images: Number of images M in the data set.
        dim: Width D of the embeddings.
        momentum: Weight of the old row in an update, in [0, 1).

    Attributes:
        rows: (M, D), unit length, random at first.

    Raises:
        ValueError: An argument is out of range.
    """

    rows: Tensor

    def __init__(self, num_images: int, dim: int, momentum: float = 0.0) -> None:
        super().__init__()
        if num_images < 1 or dim < 1 or not 0 <= momentum < 1:
            raise ValueError(
                "num_images and dim of a bank must be positive and its momentum in [0, 1), got "
                f"{num_images}, {dim} and {momentum}"
            )
        self.momentum = momentum
        self.register_buffer("rows", unit_rows(torch.randn(num_images, dim)))

    def update(self, *rows: Tensor) -> None:
        """Moves the images' rows toward new embeddings: `update(embeddings (N, D), indices (N,))`."""
        new, indices = rows
        moved = torch.lerp(unit_rows(new).to(self.rows), self.rows[indices], self.momentum)
        self.rows.index_copy_(0, indices, unit_rows(moved))

    @torch.no_grad()
    def fill(self, rows: Tensor) -> None:
        """Replaces the rows of the first images by embeddings (N, D), N at most M, normalized to unit length."""
        self.rows[: len(rows)] = unit_rows(rows).to(self.rows)

    def check_data(self, num_images: int) -> None:
        """Refuses a bank with another number of rows than images."""
        if len(self.rows) != num_images:
            raise ValueError(f"a bank of {len(self.rows)} images does not fit the data set of {num_images} images")


def memories(method: nn.Module) -> list[Memory]:
    """Returns the parts of a method that change once per optimizer update."""
    return [part for part in method.modules() if isinstance(part, Memory)]


def check_memories(method: nn.Module, num_images: int) -> None:
    """Raises ValueError if a queue or bank of the method does not fit a data set of `num_images` images."""
    for memory in memories(method):
        memory.check_data(num_images)
