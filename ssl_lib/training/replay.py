"""One step of a run, repeated and looked into: where its numbers stop being finite."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_lib.data import Loader
from ssl_lib.errors import CheckpointError, NonFiniteLossError
from ssl_lib.methods.base import Method
from ssl_lib.optim.schedules import Schedule
from ssl_lib.training.callbacks import Callback
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.state import TrainState
from ssl_lib.training.trainer import Trainer
from ssl_lib.types import StepOutput, Views

__all__ = ["StepReport", "inspect_step"]

_FRAME = re.compile(r'File "(.+)", line (\d+), in .+\n\s*(.*)')
_INSIDE = f"{Path(torch.__file__).parent}/"


@dataclass
class StepReport:
    """What was seen in one update.

    Attributes:
        step: 0-based index of the update.
        losses: The loss of each micro-batch.
        lr: Learning rate.
        indices: Positions of the images in the data set.
        views: A line of statistics for each view of the first micro-batch.
        constant: Positions of images that have a view of one single value.
        weights: What the weights were before the step: the largest, or how many are not finite.
        forward: The first module whose output was not finite, if any.
        backward: The first operation whose gradient was not finite, and the line that called it, if any.
        images: Positions of the images in whose rows that output or gradient was not finite, if it has rows.
        gradients: The parameters whose gradient was not finite.
        diverged: Whether the weights were not finite, or above 1e4, before the step.
        after: Parameters that were not finite after the step; empty where the run stopped in it.
    """

    step: int
    losses: list[float] = field(default_factory=list)
    lr: float = 0.0
    indices: list[int] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    constant: list[int] = field(default_factory=list)
    weights: str = ""
    forward: str | None = None
    backward: str | None = None
    images: list[int] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)
    diverged: bool = False
    after: list[str] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """The first loss that is not finite, else the last one."""
        bad = [loss for loss in self.losses if not torch.tensor(loss).isfinite()]
        return [*bad, *self.losses[-1:]][0]

    @property
    def finite(self) -> bool:
        """Whether losses, gradients and the weights after the step are all finite."""
        return bool(torch.tensor(self.losses).isfinite().all()) and not self.gradients and not self.after


def inspect_step(
    trainer: Trainer,
    method: Method,
    loader: Loader,
    optimizer: Optimizer,
    schedule: Schedule | None = None,
    *,
    step: int,
    start: str | Path | None = None,
) -> StepReport:
    """Trains up to a step, without writing anything, and looks into that step as the trainer makes it.

    The step is the very one of the run, bit for bit where the arithmetic is repeatable (on the CPU; not under
    `compile`, which is left out here).

    Args:
        trainer: As of the run; its run folder and callbacks are left alone.
        method: As it was built for the run.
        loader: As of the run.
        optimizer: As of the run.
        schedule: As of the run.
        step: 0-based index of the update.
        start: The checkpoint to begin at; None begins with the run.

    Raises:
        CheckpointError: The checkpoint does not fit, or was saved after the step.
        ValueError: The run has no such step.
        NonFiniteLossError: An earlier step already stops the run.
    """
    trainer = copy.copy(trainer)
    inspector = _Inspector(step, None if start is None else Path(start))
    trainer.run_dir, trainer.callbacks, trainer.compile = None, [inspector], False
    try:
        trainer.fit(method, loader, optimizer, schedule)
    except _Seen:
        pass
    except NonFiniteLossError:
        if not inspector.report.losses:
            raise
    finally:
        inspector.detach()
    return inspector.report


class _Seen(Exception):
    """Ends the training after the step."""


class _Inspector(Callback):
    """Hangs hooks on the method for one step."""

    def __init__(self, step: int, start: Path | None) -> None:
        self.report = StepReport(step)
        self.start = start
        self._undo: list[Callable[[], object]] = []
        self._micro: Tensor | None = None  # indices of the micro-batch under way

    def on_start(self, state: TrainState) -> None:
        """Takes up the checkpoint."""
        if not 0 <= self.report.step < state.total_steps:
            raise ValueError(f"step {self.report.step} is none of this run's, 0 to {state.total_steps - 1}")
        if self.start is not None:
            state.load_state_dict(load_checkpoint(self.start))
        if state.step > self.report.step:
            raise CheckpointError(f"{self.start} was saved after {state.step} steps, behind step {self.report.step}")
        self._attach_before(state)

    def on_update(self, state: TrainState) -> None:
        """Begins before the step, and ends the training after it."""
        if state.step > self.report.step:
            self.report.after = [name for name, p in state.method.named_parameters() if not _finite(p)]
            raise _Seen
        self._attach_before(state)

    def detach(self) -> None:
        """Takes all hooks off again."""
        while self._undo:
            self._undo.pop()()

    def _attach_before(self, state: TrainState) -> None:
        if state.step != self.report.step:
            return
        method, report = state.method, self.report
        report.lr = state.schedule.apply(state.optimizer, state.progress)
        report.weights, report.diverged = _describe_weights(method)
        anomaly = torch.autograd.set_detect_anomaly(True, check_nan=False)  # notes each operation's line
        handles = [method.register_forward_pre_hook(self._see_views), method.register_forward_hook(self._see_loss)]
        handles += [part.register_forward_hook(self._seer(name)) for name, part in method.named_modules() if name]
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                handles.append(parameter.register_post_accumulate_grad_hook(self._gradient_seer(name)))
        self._undo = [lambda: anomaly.__exit__(None, None, None), *(handle.remove for handle in handles)]

    def _see_views(self, method: nn.Module, arguments: tuple[Any, ...]) -> None:
        views: Views = arguments[0]
        assert views.indices is not None
        self._micro, every = views.indices.cpu(), (*views.large, *views.small)
        for view in every:
            flat = view.flatten(1)
            self.report.constant += self._micro[(flat.amax(1) == flat.amin(1)).cpu()].tolist()
        self.report.constant = sorted(set(self.report.constant))
        if not self.report.indices:
            self.report.views = [_describe(view) for view in every]
        self.report.indices += self._micro.tolist()

    def _see_loss(self, method: nn.Module, arguments: object, output: StepOutput) -> None:
        self.report.losses.append(output.loss.item())
        for node in _nodes(output.loss.grad_fn):
            node.register_hook(self._node_seer(node))

    def _seer(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            bad = next((tensor for tensor in _tensors(output) if not _finite(tensor)), None)
            if self.report.forward is not None or bad is None:
                return
            given = "finite" if all(map(_finite, _tensors(inputs))) else "not finite either"
            self.report.forward = f"{name} ({type(module).__name__}), {_describe(bad)}; its input is {given}"
            self._blame(bad)

        return see

    def _node_seer(self, node: Any) -> Callable[[Any, Any], None]:
        def see(passed_on: Sequence[Tensor | None], received: Sequence[Tensor | None]) -> None:
            bad = next((tensor for tensor in _tensors(passed_on) if not _finite(tensor)), None)
            if self.report.backward is None and bad is not None and all(map(_finite, _tensors(received))):
                self.report.backward = f"{node.name()}{_line_of(node)}"
                self._blame(bad)

        return see

    def _blame(self, tensor: Tensor) -> None:
        """Notes the images in whose rows a tensor is not finite, where it has rows and is the first."""
        assert self._micro is not None
        count = len(self._micro)
        if not self.report.images and tensor.ndim and len(tensor) and len(tensor) % count == 0:  # views behind another
            rows = ~tensor.detach().isfinite().reshape(len(tensor), -1).all(1)
            self.report.images = self._micro[rows.view(-1, count).any(0).cpu()].tolist()

    def _gradient_seer(self, name: str) -> Callable[[Tensor], None]:
        def see(parameter: Tensor) -> None:
            if parameter.grad is not None and not _finite(parameter.grad) and name not in self.report.gradients:
                self.report.gradients.append(name)

        return see


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of floats inside tuples and lists."""
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)


def _describe(tensor: Tensor) -> str:
    """Shape, range and moments of the finite values, and how many are not."""
    values = tensor.detach().float()
    good = values[values.isfinite()]
    shape = "x".join(map(str, tensor.shape)) or "a scalar"
    kinds = {"NaN": values.isnan().sum().item(), "infinite": values.isinf().sum().item()}
    bad = "".join(f", {count} of {values.numel()} {kind}" for kind, count in kinds.items() if count)
    if not len(good):
        return f"{shape}{bad}"
    spread = good.std(correction=0).item()
    return f"{shape}, {good.min():.4g} to {good.max():.4g}, mean {good.mean():.4g}, std {spread:.4g}{bad}"


def _describe_weights(method: nn.Module) -> tuple[str, bool]:
    """A line, and whether the weights have diverged."""
    named = {name: p.detach() for name, p in method.named_parameters() if p.numel()}
    bad = [name for name, parameter in named.items() if not _finite(parameter)]
    if bad:
        return f"{len(bad)} of {len(named)} parameters are not finite, such as {bad[0]}", True
    largest = {name: parameter.abs().max().item() for name, parameter in named.items()}
    name = max(largest, key=largest.__getitem__)
    return f"finite, the largest {largest[name]:.3g} in {name}", largest[name] > 1e4


def _nodes(root: Any) -> list[Any]:
    """The operations behind a loss, without the parameters."""
    seen, waiting = {root}, [root]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen and not hasattr(node, "variable"):
                seen.add(node)
                waiting.append(node)
    return list(seen)


def _line_of(node: Any) -> str:
    """The line of the user's or the library's code that called a differentiable operation."""
    for frame in reversed(node.metadata.get("traceback_", [])):
        found = _FRAME.search(frame)
        if found and not found[1].startswith(_INSIDE):
            return f" of {found[1]}:{found[2]}: {found[3].strip()}"
    return ""
