"""Fully sharded training (FSDP2): each process holds a fraction of weights, gradients and optimizer state."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
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

OLDEST_TORCH = "2.13"  # 2.8 does not average gradients without blocks, nor gather blocks that are recomputed


def check_sharding(precision: Precision) -> None:
    """Refuses settings that strategy fsdp2 does not support.

    Raises:
        ConfigError: torch is too old, or the precision is fp16.
    """
    if torch.__version__ < OLDEST_TORCH:
        raise ConfigError(
            f"strategy fsdp2 needs torch {OLDEST_TORCH} or newer, this is {torch.__version__}: "
            "upgrade torch, or use strategy ddp"
        )
    if precision.dtype is torch.float16:
        raise ConfigError("strategy fsdp2 does not support the gradient scaling of fp16: use precision bf16 or fp32")


def shard(method: Method, optimizer: Optimizer, precision: Precision) -> nn.Module:
    """Shards a method, so that each process keeps a fraction of its weights, gradients and optimizer state.

    The weights of a block (see `blocks`) are gathered when the block is computed, in bf16 if that is the precision.
    All other weights are gathered for the whole forward and backward pass, in float32, under autocast. Gradients are
    averaged in float32 or better. All processes start with the weights of the first; batch normalization layers are
    synchronized as in `parallelize`. In a single process, the method is returned unchanged.

    Args:
        method: The method, on its device; its parameters become DTensors permanently.
        optimizer: Over the method's parameters, before its first step; it receives the new parameters.
        precision: Its device, and the dtype of the blocks.

    Returns:
        The module to call instead of the method.

    Raises:
        ConfigError: As `parallelize`.
        ValueError: The method is already sharded, or the optimizer has made a step.
    """
    if not is_distributed():
        return method
    if optimizer.state or any(isinstance(parameter, DTensor) for parameter in method.parameters()):
        raise ValueError(
            "strategy fsdp2 needs a method and an optimizer that were not trained before: build new ones, and load the "
            "method's weights from its checkpoint"
        )
    method.to(memory_format=torch.contiguous_format)  # FSDP2 shards no other format
    synchronize(method, precision.device)
    for tensor in chain(method.parameters(), method.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    before = dict(method.named_parameters())
    model, mesh = _Root(method), init_device_mesh(precision.device.type, (world_size(),))
    for unit in (*blocks(method), model):
        sharded = fully_shard(unit, mesh=mesh, mp_policy=_policy(unit, precision))
        sharded.set_force_sum_reduction_for_comms(precision.device.type == "cpu")  # gloo has no mean
    after = dict(method.named_parameters())
    replaced = {parameter: after[name] for name, parameter in before.items()}
    for group in optimizer.param_groups:
        group["params"] = [replaced[parameter] for parameter in group["params"]]
    model()
    return model


def blocks(method: nn.Module) -> list[nn.Module]:
    """The modules to gather one at a time, such as a ViT's blocks or a ResNet's bottlenecks; inner before outer ones.

    They are the members of every Sequential or ModuleList that has at least two members, all of the same class and with
    submodules.
    """
    found: list[nn.Module] = []
    for part in method.modules():
        members = list(part.children())
        if (
            isinstance(part, nn.Sequential | nn.ModuleList)
            and len(members) > 1
            and len({type(member) for member in members}) == 1
            and all(any(member.children()) for member in members)
            and not isinstance(members[0], nn.ModuleList | nn.ModuleDict)  # these are never called
        ):
            found += members
    return list(dict.fromkeys(reversed(found)))


def _policy(unit: nn.Module, precision: Precision) -> MixedPrecisionPolicy:
    """Computes blocks in bf16; those with batch normalization stay in float32, like its statistics."""
    wide = isinstance(unit, _Root) or any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in unit.modules())
    if precision.dtype is None or wide:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(precision.dtype, reduce_dtype=torch.float32, output_dtype=torch.float32)


class _Root(nn.Module):
    """The method's forward; without arguments it does nothing, but makes FSDP2 register the root module first."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *arguments: Any) -> Any:
        if not arguments:
            return None
        output = self.method(*arguments)
        return output if self.method.regularizers else replace(output, features=None)  # FSDP2 hooks every output


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` returned this module, so that each process holds a fraction of its weights."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: nn.Module, network: nn.Module) -> Iterator[None]:
    """Gathers all weights of a network in every process, so that each can run it on its own, any number of times.

    Args:
        model: The result of `shard`; for any other module, nothing is done.
        network: A part of the model, such as the encoder.
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
    """Replaces the sharded tensors of a state dict by full tensors on the CPU; all processes must call it together.

    Only the first process receives the tensors; the other processes get empty ones, to save memory.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if rank() == 0 else tensor.new_empty(0)
    if isinstance(state, dict):
        result = copy.copy(state)  # keeps the class and the module versions of a state dict
        result.update((key, gathered(value)) for key, value in state.items())
        return result
    return state


def scattered(state: Mapping[str, Any], like: Mapping[str, Any]) -> Mapping[str, Any]:
    """Shards the tensors of a method's full state dict like the tensors of `like`, its current state dict."""
    return {key: _shard_like(value, like.get(key)) for key, value in state.items()}


def scattered_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Shards the tensors of an optimizer's full state dict like the parameters that they belong to."""
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
