"""`ssl-lib embed`: what a trained run makes of a folder of images."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from torch import nn

from ssl_lib.cli.common import counted, is_setting, print_names
from ssl_lib.cli.image_source import open_images
from ssl_lib.config.resolve import call
from ssl_lib.data import FolderData, ImageData
from ssl_lib.data.io.decode import OnError
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.embedding import Embedded, embed
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.experiment.load import load_run
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.runs.files import run_folder
from ssl_lib.utils.precision import resolve_device

__all__ = ["run_embed"]


def run_embed(options: argparse.Namespace) -> None:
    """Runs `ssl-lib embed`."""
    folders = [text for text in options.overrides if not is_setting(text)]
    if len(folders) > 1:
        raise ConfigError(f"embed takes one folder of images, got {' and '.join(folders)}")
    if options.size is not None and options.size < 1:
        raise ConfigError(f"--size must be at least 1 pixel, got {options.size}")
    overrides = [text for text in options.overrides if text not in folders]
    on_error: OnError = "skip" if options.skip_unreadable else "raise"
    if options.skip_unreadable and not folders:
        overrides.append("data.on_error=skip")
    if folders:
        encoder, shown = _load(options.run, overrides)
        data = open_images(folders[0], shown, on_error)
    else:
        run = load_run(options.run, overrides, protocols=None)
        encoder, shown, data = run.method.encoder, run.preprocessing, run.train
    shown = shown if options.size is None else shown.at(options.size)
    packed = folders and not isinstance(data, FolderData)
    root = os.path.realpath(os.path.expanduser(folders[0])) if packed else None
    encoder = encoder.to(resolve_device(options.device))
    settings = {
        "size": shown.size,
        "resize": shown.resize,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "root": root,
    }
    try:
        made = call("embed", embed, encoder, data, options.output, workers=options.workers, **settings)
    except KeyboardInterrupt:
        print(f"\n{options.output} is unfinished: the same command goes on where this one stopped", file=sys.stderr)
        raise
    _tell(made, encoder, data)
    table, picture = shlex.quote(options.output), " -o grid.png"
    if not folders and not isinstance(data, FolderData):  # the table names no folder
        run_dir = shlex.quote(str(run_folder(options.run)))
        picture = "" if overrides else f"{picture} --images {run_dir}"
    print(f"to look at it: ssl-lib nearest {table} 0{picture}; or ssl-lib duplicates {table}, ", end="")
    print(f"ssl-lib select {table} -n {min(100, made.count)}")


def _tell(made: Embedded, encoder: nn.Module, data: ImageData) -> None:
    new = f", {made.written:,} of them now" if made.written else ", all there already"
    new = new if made.written < made.count else ""
    space = made.path.stat().st_size / 2**20
    print(f"{counted(made.count, 'image')} x {encoder.out_dim}{new}, {space:,.1f} MiB in {made.path}", file=sys.stderr)
    where = data.root if isinstance(data, FolderData) else ""
    names = [os.path.join(where, name) for name in made.skipped]
    print_names(f"{counted(len(names), 'unreadable image')} left out:", names)


def _load(target: str, overrides: list[str]) -> tuple[nn.Module, Preprocessing]:
    """The encoder, and how it is shown images, which all but old checkpoints hold."""
    try:
        backbone = TrainedBackbone.from_run(target, overrides=overrides)
    except DataError as error:
        raise DataError(
            f"{error}. The run's training images say how to normalize others: name them by data.root=..., or give "
            "what they are like, as in data='{name: image_folder, root: IMAGES}', with data.mean and data.std if they "
            "are not ImageNet's"
        ) from error
    return backbone.net, backbone.preprocessing
