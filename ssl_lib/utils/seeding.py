"""Seeds: generators that depend only on their use and a key, and the state of the global generators."""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch

__all__ = ["global_state", "seed_everything", "seeded_generator", "set_global_state"]

_USES = {"order": 1, "crops": 2, "views": 3, "sample": 4, "hold-out": 5, "method": 6, "clusters": 7}


_Use = Literal["order", "crops", "views", "sample", "hold-out", "method", "clusters"]


def seeded_generator(use: _Use, *key: int) -> torch.Generator:
    """Returns a torch generator whose stream depends on the use and on `key`, non-negative integers."""
    entropy = np.random.SeedSequence((_USES[use], *key)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0]))


def seed_everything(seed: int, *key: int) -> None:
    """Seeds the global generators of torch, NumPy and Python; a key of non-negative integers gives other streams."""
    if key:
        seed = int(np.random.SeedSequence((seed, *key)).generate_state(1)[0])
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def global_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of the global generators of torch (CPU and `device`), NumPy and Python, as plain values."""
    numpy_name, numpy_keys, *numpy_rest = np.random.get_state(legacy=True)
    version, python_keys, gauss = random.getstate()
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [numpy_name, torch.from_numpy(np.asarray(numpy_keys, dtype=np.int64)), *numpy_rest],
        "python": [version, torch.tensor(python_keys), gauss],
    }


def set_global_state(state: dict[str, Any], device: torch.device) -> None:
    """Restores a state from `global_state`."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    numpy_name, numpy_keys, *numpy_rest = state["numpy"]
    np.random.set_state((numpy_name, numpy_keys.numpy().astype(np.uint32), *numpy_rest))
    version, python_keys, gauss = state["python"]
    random.setstate((version, tuple(python_keys.tolist()), gauss))
