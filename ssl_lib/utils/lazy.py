"""Lazy imports, safe in several threads."""

from __future__ import annotations

import threading
from importlib import import_module
from types import ModuleType

__all__ = ["import_lazily"]

_ONE_AT_A_TIME = threading.RLock()


def import_lazily(name: str) -> ModuleType:
    """Imports a module while no other thread does so by this function.

    torchvision's modules import each other in a cycle: two threads that enter it at different ends would deadlock.
    """
    with _ONE_AT_A_TIME:
        return import_module(name)
