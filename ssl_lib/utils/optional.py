"""Optional packages, and the extras of ssl_lib that install them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ssl_lib.errors import ConfigError

__all__ = ["EXTRAS", "missing_package", "needs"]

EXTRAS: Mapping[str, Sequence[str]] = {
    "timm": ("timm",),
    "hub": ("datasets",),
    "tiff": ("tifffile", "imagecodecs"),
    "heic": ("pillow-heif",),
    "eval": ("scikit-learn",),
    "remote": ("fsspec[http]",),
    "report": ("scikit-learn", "umap-learn"),
    "parquet": ("pyarrow",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "export": ("safetensors",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""The packages of each extra, as in pyproject.toml."""

_EXTRA = re.compile(r"ssl_lib\[(\w+)\]")


@contextmanager
def needs(package: str, what: str) -> Iterator[None]:
    """Turns a failed import inside this context into an error that names the package and the extra to install.

    Args:
        package: A package, such as `timm` or `dodo>=2`, or an extra with all of its packages: `ssl_lib[tiff]`.
        what: The component that needs it.

    Raises:
        ConfigError: `what` needs `package`, which is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{what} {missing_package(package)}") from error


def missing_package(package: str) -> str:
    """Returns `needs timm: pip install timm, or pip install "ssl_lib[timm]"`; `package` is as in `needs`."""
    if found := _EXTRA.fullmatch(package):
        extra: str | None = found[1]
        packages = list(EXTRAS[found[1]])
    else:
        extra = next((name for name, known in EXTRAS.items() if package.partition(">")[0] in known), None)
        packages = [package]
    names = " and ".join(name.partition(">")[0] for name in packages)
    with_extra = "" if extra is None else f', or pip install "ssl_lib[{extra}]"'
    return f"needs {names}: pip install {shlex.join(packages)}{with_extra}"
