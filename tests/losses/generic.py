"""Builds and calls any public loss from its signature, so that new losses are tested automatically."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_lib import losses
from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.memory import memories
from ssl_lib.utils.rows import unit_rows

LOSSES = [name for name in losses.__all__ if isinstance(getattr(losses, name), type)]

QUEUE = 7
"""Rows of a queue that is passed to a loss."""

Inputs = Callable[[Callable[[], Tensor], Tensor], typing.Any]

INTEGERS = {"size": 64, "num_images": 64}
"""Required integers of constructors that are not the width of the embeddings."""

STACKED = {"SupConLoss": 1, "MMCRLoss": 1, "SIGRegLoss": 0, "VISRegLoss": 0}
"""Losses of several views in one tensor: the dimension of the views."""

PROBABILITIES = ("p_a", "p_b")
"""Arguments of `forward` whose rows sum to 1."""

ARGUMENTS: dict[str, Inputs] = {
    "queue": lambda make, rows: queue(make().shape[1]),
    "assignments": lambda make, rows: rows % 3,
    "indices": lambda make, rows: rows,
    "labels": lambda make, rows: rows % 3,
    "prototypes": lambda make, rows: queue(make().shape[1]),
    "temperatures": lambda make, rows: torch.linspace(0.2, 0.5, QUEUE, dtype=torch.float64),
    "z_transformed": lambda make, rows: make().flip(1),
    "teacher_temperature": lambda make, rows: 0.04,
}
"""By name: how to make an argument of `forward` from a function that makes embeddings and the images' positions."""


class TwoViews(nn.Module):
    """A loss of any number of views (`*views`), called with two."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return self.loss(z_a, z_b)


def queue(width: int) -> Tensor:
    """Unit rows that are the same in all processes."""
    rows = torch.randn(QUEUE, width, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return unit_rows(rows)


def build(name: str, width: int) -> nn.Module:
    """Builds a loss; every required integer argument is set to the width of the embeddings, or as in `INTEGERS`."""
    required = {key: entry for key, entry in arguments_of(getattr(losses, name)).items() if entry.default is REQUIRED}
    unknown = {key for key, entry in required.items() if entry.annotation is not int}
    assert not unknown, f"extend this function to the arguments {unknown} of {name}"
    with torch.random.fork_rng(devices=[]):  # banks start at random, in every process alike
        torch.manual_seed(0)
        loss: nn.Module = getattr(losses, name)(**{key: INTEGERS.get(key, width) for key in required})
    kinds = {parameter.kind for parameter in inspect.signature(loss.forward).parameters.values()}
    return TwoViews(loss) if inspect.Parameter.VAR_POSITIONAL in kinds else loss


def inputs(loss: nn.Module, make: Callable[[], Tensor], rows: Tensor | None = None) -> dict[str, typing.Any]:
    """Returns a value for each required argument of `forward`, by its name (`ARGUMENTS`) or else its annotation.

    Args:
        loss: The loss.
        make: Makes the embeddings (N, D) of another view at every call.
        rows: Positions (N,) of this process's images in the joined batch; None are the first ones.
    """
    hints = typing.get_type_hints(loss.forward)
    required = {name: entry for name, entry in arguments_of(loss.forward).items() if entry.default is REQUIRED}
    made: list[Tensor] = []

    def view() -> Tensor:
        made.append(make())
        return made[-1]

    arguments: dict[str, typing.Any] = {}
    for name in sorted(required, key=lambda name: name in ARGUMENTS):  # embeddings first, which tell N
        if name in ARGUMENTS:
            places = torch.arange(len(made[0])) if rows is None else rows
            value = ARGUMENTS[name](lambda: made[0], places)
            arguments[name] = [value, value] if typing.get_origin(hints[name]) is Sequence else value
        elif hints[name] is Tensor and type(loss).__name__ in STACKED:
            arguments[name] = torch.stack([view(), view()], STACKED[type(loss).__name__])
        elif hints[name] is Tensor:
            arguments[name] = view().softmax(1) if name in PROBABILITIES else view()
        elif typing.get_origin(hints[name]) in (Sequence, list, tuple):
            arguments[name] = [view(), view()]
        else:
            raise AssertionError(f"extend ARGUMENTS to {name}: {hints[name]} of {type(loss).__name__}.forward")
    return arguments


def after_update(loss: nn.Module) -> None:
    """Updates centers, queues and banks, as the trainer does after an optimizer update."""
    for memory in memories(loss):
        memory.commit()
