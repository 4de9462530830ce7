"""One method spread over several processes, each with its share of the weights: torch's FSDP2."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ssl_lib.distributed import is_distributed, rank, world_size
from ssl_lib.errors import ConfigError
from ssl_lib.methods.base import Method
from ssl_lib.training.sync_batchnorm import synchronize
from ssl_lib.utils.precision import Precision

__all__ = ["blocks", "check_sharding", "gathered", "is_sharded", "scattered", "scattered_optimizer", "shard", "whole"]

OLDEST_TORCH = "2.13"  # 2.8 averages nothing where a method has no blocks, and gathers nothing where one is recomputed


def check_sharding(precision: Precision) -> None:
    """Refuses what cannot be sharded.

    Raises:
        ConfigError: torch is too old, or the precision is fp16.
    """
    if torch.__version__ < OLDEST_TORCH:
        raise ConfigError(
            f"strategy fsdp2 needs torch {OLDEST_TORCH} or newer, this is {torch.__version__}: "
            "upgrade torch, or take strategy ddp"
        )
    if precision.dtype is torch.float16:
        raise ConfigError("strategy fsdp2 does not scale gradients, as fp16 needs: take precision bf16 or fp32")


def shard(method: Method, optimizer: Optimizer, precision: Precision) -> nn.Module:
    """What to call in place of the method, so that each process keeps its share of weights, gradients and momenta.

    The weights of a block (see `blocks`) are gathered when it is computed, in bf16 where that is the precision; those
    of the rest of the method for the whole of a forward and backward pass, in float32, and autocast does its part.
    Gradients are averaged in float32 or better. All processes begin with the weights of the first; batch normalizations
    share their statistics as under `parallelize`. In a single process nothing is changed.

    Args:
        method: On its device; its parameters become DTensors, and stay so.
        optimizer: Over the method's parameters, before its first step; it gets the new ones in their place.
        precision: Its device, and the type of the blocks.

    Raises:
        ConfigError: As `parallelize`.
        ValueError: The method was sharded before, or the optimizer has made a step.
    """
    if not is_distributed():
        return method
    if optimizer.state or any(isinstance(parameter, DTensor) for parameter in method.parameters()):
        raise ValueError(
            "strategy fsdp2 takes a method and an optimizer that were not trained before: build new ones, and load the "
            "method's weights from its checkpoint"
        )
    method.to(memory_format=torch.contiguous_format)  # the only one that can be sharded
    synchronize(method, precision.device)
    for tensor in chain(method.parameters(), method.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    before = dict(method.named_parameters())
    model, mesh = _Root(method), init_device_mesh(precision.device.type, (world_size(),))
    for unit in (*blocks(method), model):
        sharded = fully_shard(unit, mesh=mesh, mp_policy=_policy(unit, precision))
        sharded.set_force_sum_reduction_for_comms(precision.device.type == "cpu")  # gloo knows no mean
    after = dict(method.named_parameters())
    successors = {parameter: after[name] for name, parameter in before.items()}
    for group in optimizer.param_groups:
        group["params"] = [successors[parameter] for parameter in group["params"]]
    model()
    return model


def blocks(method: nn.Module) -> list[nn.Module]:
    """The parts to gather one at a time: a ViT's blocks, a ResNet's bottlenecks; inner ones before outer ones.

    They are the members of every Sequential or ModuleList that has two or more, all of one class and made of layers.
    """
    found: list[nn.Module] = []
    for part in method.modules():
        members = list(part.children())
        if (
            isinstance(part, nn.Sequential | nn.ModuleList)
            and len(members) > 1
            and len({type(member) for member in members}) == 1
            and all(any(member.children()) for member in members)
            and not isinstance(members[0], nn.ModuleList | nn.ModuleDict)  # which are not called
        ):
            found += members
    return list(dict.fromkeys(reversed(found)))


def _policy(unit: nn.Module, precision: Precision) -> MixedPrecisionPolicy:
    """Blocks are computed in bf16; batch normalization keeps its weights in float32, as its statistics are."""
    wide = isinstance(unit, _Root) or any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in unit.modules())
    if precision.dtype is None or wide:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(precision.dtype, reduce_dtype=torch.float32, output_dtype=torch.float32)


class _Root(nn.Module):
    """The method's forward; without arguments nothing, by which torch learns what the root is before a block is run."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *arguments: Any) -> Any:
        return self.method(*arguments) if arguments else None


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` made it, so that each process keeps a share of its weights."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: nn.Module, network: nn.Module) -> Iterator[None]:
    """Within, every process holds all weights of a network, and can run it by itself, as often as it likes.

    Args:
        model: What `shard` made, or any other module, for which nothing is done.
        network: A part of it, such as the encoder.
    """
    units = [part for part in (model, *network.modules()) if isinstance(part, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not model, recurse=False)
            unit.reshard()


def gathered(state: Any) -> Any:
    """A state dict with whole tensors on the CPU for the sharded ones; all processes call it together.

    Only the first process receives them, the others' memory is spared: theirs are empty.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if rank() == 0 else tensor.new_empty(0)
    if isinstance(state, dict):
        result = copy.copy(state)  # of its class, with the versions that a module's state dict carries
        result.update((key, gathered(value)) for key, value in state.items())
        return result
    return state


def scattered(state: Mapping[str, Any], like: Mapping[str, Any]) -> Mapping[str, Any]:
    """A method's whole state dict with its tensors sharded as those in `like`, its present one."""
    return {key: _shard_like(value, like.get(key)) for key, value in state.items()}


def scattered_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's whole state dict with its tensors sharded as the parameters that they belong to."""
    indices = [index for group in state["param_groups"] for index in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    owners = dict(zip(indices, parameters, strict=False))
    entries = {
        index: {name: _shard_like(value, owners.get(index)) for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": entries}


def _shard_like(value: Any, like: Any) -> Any:
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
