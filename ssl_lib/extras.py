"""Packages that the core does without."""

from __future__ import annotations

import importlib
from typing import Any

from ssl_lib.errors import ConfigError

__all__ = ["import_extra"]


def import_extra(package: str, extra: str, purpose: str) -> Any:
    """Imports a package of one of the extras.

    Args:
        package: Its name.
        extra: The extra of ssl_lib that brings it.
        purpose: What it is for, as a message's first words.

    Raises:
        ConfigError: It is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f'{purpose} needs {package}: pip install "ssl_lib[{extra}]"') from error
