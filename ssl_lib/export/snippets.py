"""Renders `templates`: the model card, and scripts that load an export and compute features from image files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssl_lib.experiment.trained_backbone import TrainedBackbone

__all__ = ["PATHS", "quoted", "render"]

PATHS = 'paths = ["photo.jpg"]  # your images'


def render(template: str, backbone: TrainedBackbone, **variables: Any) -> str:
    """Renders a template of plain text for a backbone; a missing variable raises an error."""
    known = {"images": backbone.preprocessing, "out_dim": backbone.out_dim, "paths": PATHS}
    return _templates().get_template(f"{template}.jinja").render(known, **variables).rstrip("\n")


def quoted(path: str | Path) -> str:
    """Returns a path as a Python string literal."""
    return json.dumps(str(path), ensure_ascii=False)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("ssl_lib.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
