"""`ssl-lib views`: draws the augmentation."""

from __future__ import annotations

import argparse
from typing import Any

from ssl_lib.cli.common import save_picture
from ssl_lib.cli.named_config import load_named
from ssl_lib.config.resolve import resolve
from ssl_lib.data import preview
from ssl_lib.errors import ConfigError
from ssl_lib.experiment.build import build_views
from ssl_lib.views.image_grid import draw_views

__all__ = ["run_views"]


def run_views(options: argparse.Namespace) -> None:
    """Runs `ssl-lib views`."""
    config = load_named(options.config, options.overrides)
    title = f"{config.data.name}, views: {_title(config.views)}"
    config = resolve(config)
    data, pipeline = build_views(config)
    count = min(options.images, len(data))
    if count < 1:
        raise ConfigError(f"--images must be at least 1, got {options.images}")
    originals, made = preview(data, pipeline, count, config.seed)
    picture = draw_views(originals, made, pipeline.mean, pipeline.std, title)
    save_picture(picture, options.output)
    print(f"{options.output}: {count} images and their {len(pipeline.views)} views")


def _title(views: Any) -> str:
    """The preset and its changes, or `a list`."""
    if isinstance(views, list):
        return "a list"
    changes = ", ".join(f"{key} {value}" for key, value in views.items() if key != "preset")
    return f"{views.get('preset')}{f' ({changes})' if changes else ''}"
