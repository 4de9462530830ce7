"""Device and precision: one path for fp32, bf16 and fp16."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from ssl_lib.errors import ConfigError

__all__ = ["Precision", "float32_products", "resolve_device"]

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Autocast to `dtype`, or plain fp32 if it is None; gradients are scaled for fp16 only."""

    device: torch.device
    dtype: torch.dtype | None

    @classmethod
    def resolve(cls, name: str, device: torch.device) -> Precision:
        """Looks up a precision; `auto` is bf16 if the hardware has instructions for it, else fp32.

        Raises:
            ConfigError: The name is unknown.
        """
        if name == "auto":
            name = "bf16" if _has_bf16(device) else "fp32"
        if name not in _DTYPES:
            raise ConfigError(f"unknown precision {name!r}: one of auto, {', '.join(_DTYPES)}")
        return cls(device, _DTYPES[name])

    @property
    def name(self) -> str:
        """`fp32`, `bf16` or `fp16`."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    def tf32(self) -> AbstractContextManager[None]:
        """Allows TF32 for the matrix products of an fp32 run on CUDA; under autocast only the losses are in fp32."""
        return float32_products("high" if self.device.type == "cuda" and self.dtype is None else None)

    def autocast(self) -> AbstractContextManager[None]:
        """The context of forward passes."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler, disabled unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


@contextmanager
def float32_products(precision: str | None) -> Iterator[None]:
    """Sets torch's `set_float32_matmul_precision` inside this context; None leaves it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision or before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def resolve_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:N` into a device; `auto` is CUDA if there is a GPU.

    Raises:
        ConfigError: The name is unknown or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = ", ".join(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        raise ConfigError(f"there is no device {name!r}: torch finds {found or 'no GPU, use cpu'}")
    return device


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("aarch64", "arm64"):
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)
