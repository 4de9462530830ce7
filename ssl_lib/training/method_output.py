"""The output of a method: checks, and the method's regularizers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ssl_lib.methods.base import Method
from ssl_lib.types import StepOutput

__all__ = ["checked_output"]


def checked_output(output: object, method: Method) -> StepOutput:
    """Checks the output of a method's forward pass and adds the method's regularizers.

    Raises:
        TypeError: The output is not a `StepOutput`.
        ValueError: The loss is not a scalar tensor, or does not require gradients; or there are no features to
            regularize.
    """
    name = f"{type(method).__name__}.forward"
    if not isinstance(output, StepOutput):
        raise TypeError(f"{name} must return a StepOutput(loss), got {type(output).__name__}")
    if not isinstance(output.loss, Tensor) or output.loss.ndim:
        got = f"shape {tuple(output.loss.shape)}" if isinstance(output.loss, Tensor) else type(output.loss).__name__
        raise ValueError(f"{name} must return a scalar loss, such as a mean over the batch; got {got}")
    if torch.is_grad_enabled() and not output.loss.requires_grad:
        raise ValueError(f"{name} returned a loss that depends on no trainable parameter: was it detached?")
    return _regularized(output, method)


def _regularized(output: StepOutput, method: Method) -> StepOutput:
    """Adds the weighted regularizers of the features to the loss, and their values to the metrics."""
    if not method.regularizers:
        return output
    if output.features is None:
        raise ValueError(
            f"{type(method).__name__}.forward returns no features to regularize: set StepOutput.features, or remove "
            "the regularizers"
        )
    terms = {name: loss(output.features) for name, (_, loss) in method.regularizers.items()}
    added = torch.stack([weight * terms[name] for name, (weight, _) in method.regularizers.items()]).sum()
    metrics = {**output.metrics, **{name: term.detach() for name, term in terms.items()}}
    return replace(output, loss=output.loss + added, metrics=metrics)
