"""`ssl-lib embed`: computes the embeddings of a folder of images."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssl_lib.cli.common import counted, is_setting, parse_changes, print_left_out
from ssl_lib.cli.image_source import open_images
from ssl_lib.config.convert import arguments_of, convert
from ssl_lib.config.resolve import call
from ssl_lib.data import FolderData, ImageData, image_folder
from ssl_lib.data.io.decode import OnError
from ssl_lib.data.io.formats import extensions
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.embedding import Embedded, embed
from ssl_lib.errors import ConfigError
from ssl_lib.experiment.load import load_run
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.runs.files import CONFIG_FILE, run_folder
from ssl_lib.utils.precision import resolve_device

__all__ = ["run_embed"]

_FILES = ("exclude", "files", "layout", "max_pixels", "pages")
"""Keys of `data` that choose among the files of a folder; the others determine what the network gets."""


def run_embed(options: argparse.Namespace) -> None:
    """Runs `ssl-lib embed`."""
    folders = [text for text in options.overrides if not is_setting(text)]
    if len(folders) > 1:
        raise ConfigError(f"embed takes one folder of images, got {' and '.join(folders)}")
    if options.size is not None and options.size < 1:
        raise ConfigError(f"--size must be at least 1 pixel, got {options.size}")
    folder = folders[0] if folders else None
    encoder, preprocessing, data = _load(options, folder)
    if options.size is not None:
        preprocessing = preprocessing.at(options.size)
    settings = {
        "preprocessing": preprocessing,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "mirrored": options.mirrored,
        "root": os.path.realpath(os.path.expanduser(folder)) if folder else None,
    }
    if isinstance(data, FolderData) and _would_be_listed(options.output, data.roots):
        raise ConfigError(
            f"--output: {options.output} is in the folder of the images, where it would be taken for one of them: "
            "choose another place, such as -o ../embeddings.npz"
        )
    encoder = encoder.to(resolve_device(options.device))
    try:
        made = call("embed", embed, encoder, data, options.output, workers=options.workers, **settings)
    except KeyboardInterrupt:
        print(f"\n{options.output} is incomplete: the same command continues where it stopped", file=sys.stderr)
        raise
    _print_summary(made, encoder, data)
    print(_next_steps(options, made, folder, data))


def _load(options: argparse.Namespace, folder: str | None) -> tuple[nn.Module, Preprocessing, ImageData]:
    """The encoder, its preprocessing, and the images of `folder`, or the run's training images."""
    changes = parse_changes([text for text in options.overrides if text != folder])
    if folder is None:
        if options.skip_unreadable:
            changes["data.on_error"] = "skip"
        run = load_run(options.run, changes, protocols=None)
        return run.method.encoder, run.preprocessing, run.train
    known = {f"data.{field.name}" for field in dataclasses.fields(Preprocessing)}
    given = {name: changes.pop(f"data.{name}") for name in _FILES if f"data.{name}" in changes}
    files = {name: convert(value, arguments_of(image_folder)[name].annotation, name) for name, value in given.items()}
    if unused := [key for key in changes if key.partition(".")[0] == "data" and key not in known]:
        raise ConfigError(f"{unused[0]} has no effect on the images of {folder}: leave out the change, or the folder")
    backbone = TrainedBackbone.from_run(options.run, changes=changes)
    on_error: OnError = "skip" if options.skip_unreadable else "raise"
    images = open_images(folder, backbone.preprocessing, on_error, **files)
    return backbone.net, backbone.preprocessing, images


def _would_be_listed(path: str, roots: Sequence[str]) -> bool:
    """Whether a new file would be taken for an image of these folders; the folders of runs are not listed."""
    file = Path(path).expanduser().resolve()
    inside = any(file.is_relative_to(Path(root).resolve()) for root in roots)
    return inside and file.name.lower().endswith(extensions()) and not (file.parent / CONFIG_FILE).is_file()


def _print_summary(made: Embedded, encoder: nn.Module, data: ImageData) -> None:
    new = f", {made.written:,} of them now" if made.written else ", nothing new"
    new = new if made.written < made.count else ""
    space = made.path.stat().st_size / 2**20
    print(f"{counted(made.count, 'image')} x {encoder.out_dim}{new}, {space:,.1f} MiB in {made.path}", file=sys.stderr)
    root = data.root if isinstance(data, FolderData) else ""
    print_left_out(os.path.join(root, name) for name in made.skipped)


def _next_steps(options: argparse.Namespace, made: Embedded, folder: str | None, data: ImageData) -> str:
    table, picture = shlex.quote(options.output), " -o grid.png"
    if folder is None and not isinstance(data, FolderData):  # the table names no folder
        run_dir = shlex.quote(str(run_folder(options.run)))
        picture = "" if options.overrides or options.skip_unreadable else f"{picture} --images {run_dir}"
    commands = [f"nearest {table} 0{picture}", f"duplicates {table}", f"select {table} -n {min(100, made.count)}"]
    return "next: " + ", ".join(f"ssl-lib {command}" for command in commands)
