"""Optional packages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_lib.errors import ConfigError

__all__ = ["needs"]


@contextmanager
def needs(package: str, what: str) -> Iterator[None]:
    """Turns a failed import inside this context into an error that names the package to install.

    Raises:
        ConfigError: `what` needs `package`, which is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{what} needs {package.partition('>')[0]}: pip install {shlex.quote(package)}") from error
