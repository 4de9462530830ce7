"""Synchronized batch normalization: statistics over the images of all processes, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.distributed import batch_moments, is_distributed, world_size
from ssl_lib.errors import ConfigError
from ssl_lib.methods.base import Method

__all__ = ["SyncBatchNorm", "synchronize", "synchronize_batchnorm"]


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization with statistics over the images of all processes, on any device.

    Equals `torch.nn.SyncBatchNorm`, which only runs on GPUs. Sums are computed in float32 or better. Every process must
    hold the same number of images. In eval mode and in a single process it is ordinary batch normalization.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        if not self.training or not is_distributed():
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, variance = batch_moments(wide)
        self._track(mean.detach().flatten(), variance.detach().flatten(), world_size() * x.numel() // x.shape[1])
        out = (wide - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            weight, bias = (parameter.view_as(mean) for parameter in (self.weight, self.bias))
            out = out * weight + bias
        return out.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Updates the running statistics like torch, with the unbiased variance."""
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), momentum)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(x.shape)}")


def synchronize(method: Method, device: torch.device) -> None:
    """Replaces a method's batch normalization layers by synchronized ones, unless its `sync_batchnorm` is False.

    Raises:
        ConfigError: A layer has its own forward, such as timm's BatchNormAct2d, which a SyncBatchNorm would not
            reproduce; the message names it.
    """
    if not method.sync_batchnorm:
        return
    for name, module in method.named_modules():
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm and type(module).forward not in (nn.modules.batchnorm._BatchNorm.forward, SyncBatchNorm.forward):
            raise ConfigError(
                f"{name} is a {type(module).__name__}, a batch normalization with its own forward, which cannot be "
                "synchronized over several processes: train in one process, use another backbone, or set "
                "sync_batchnorm = False on the method, so that each process normalizes its own images"
            )
    convert = nn.SyncBatchNorm.convert_sync_batchnorm if device.type == "cuda" else synchronize_batchnorm
    convert(method)


def synchronize_batchnorm(module: nn.Module) -> None:
    """Replaces every batch normalization inside `module` by a `SyncBatchNorm` with the same parameters and buffers."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, _synced(child))
        else:
            synchronize_batchnorm(child)


def _synced(norm: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
    synced = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
    synced.affine, synced.track_running_stats = norm.affine, norm.track_running_stats
    synced._parameters, synced._buffers = norm._parameters, norm._buffers
    return synced.train(norm.training)
