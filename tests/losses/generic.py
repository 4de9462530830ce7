"""Any public loss, built and called by its signature, so that losses to come are tested without being listed."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ssl_lib import losses
from ssl_lib.config.convert import REQUIRED, arguments_of

LOSSES = [name for name in losses.__all__ if isinstance(getattr(losses, name), type)]


def build(name: str, width: int) -> nn.Module:
    """A loss, every width that it asks for being that of the embeddings."""
    required = {key: entry for key, entry in arguments_of(getattr(losses, name)).items() if entry.default is REQUIRED}
    unknown = {key for key, entry in required.items() if entry.annotation is not int}
    assert not unknown, f"teach this function what {name} takes as {unknown}"
    return getattr(losses, name)(**dict.fromkeys(required, width))


def inputs(loss: nn.Module, make: Callable[[], Tensor]) -> dict[str, typing.Any]:
    """An argument for each parameter of `forward` without a default, by its annotation."""
    hints = typing.get_type_hints(loss.forward)
    given: dict[str, typing.Any] = {}
    for name, entry in arguments_of(loss.forward).items():
        if entry.default is not REQUIRED:
            continue
        hint = hints[name]
        if hint is Tensor:
            given[name] = make()
        elif typing.get_origin(hint) in (Sequence, list, tuple):
            given[name] = [make(), make()]
        elif hint is float:
            given[name] = 0.04
        else:
            raise AssertionError(f"teach this function what {type(loss).__name__}.forward takes as {name}: {hint}")
    return given


def move_on(loss: nn.Module) -> None:
    """What a method does after the update, for losses with a center."""
    if hasattr(loss, "update_center"):
        loss.update_center()
