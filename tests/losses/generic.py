"""Builds and calls any public loss from its signature, so that new losses are tested automatically."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ssl_lib import losses
from ssl_lib.config.convert import REQUIRED, arguments_of

LOSSES = [name for name in losses.__all__ if isinstance(getattr(losses, name), type)]


def build(name: str, width: int) -> nn.Module:
    """Builds a loss; every required integer argument is set to the width of the embeddings."""
    required = {key: entry for key, entry in arguments_of(getattr(losses, name)).items() if entry.default is REQUIRED}
    unknown = {key for key, entry in required.items() if entry.annotation is not int}
    assert not unknown, f"extend this function to the arguments {unknown} of {name}"
    return getattr(losses, name)(**dict.fromkeys(required, width))


def inputs(loss: nn.Module, make: Callable[[], Tensor]) -> dict[str, typing.Any]:
    """Returns a value for each required argument of `forward`, chosen by its annotation."""
    hints = typing.get_type_hints(loss.forward)
    arguments: dict[str, typing.Any] = {}
    for name, entry in arguments_of(loss.forward).items():
        if entry.default is not REQUIRED:
            continue
        hint = hints[name]
        if hint is Tensor:
            arguments[name] = make()
        elif typing.get_origin(hint) in (Sequence, list, tuple):
            arguments[name] = [make(), make()]
        elif hint is float:
            arguments[name] = 0.04
        else:
            raise AssertionError(
                f"extend this function to the argument {name}: {hint} of {type(loss).__name__}.forward"
            )
    return arguments


def after_update(loss: nn.Module) -> None:
    """Updates the center of losses that have one, as a method does after an optimizer update."""
    if hasattr(loss, "update_center"):
        loss.update_center()
