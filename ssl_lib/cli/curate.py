"""`ssl-lib nearest` and `select`: neighbors and subsets in a table of embeddings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_lib.cli.common import counted, save_picture
from ssl_lib.cli.image_source import image_reader
from ssl_lib.cli.path_lists import check_list, write_list
from ssl_lib.config.resolve import call
from ssl_lib.embedding import (
    EmbeddingTable,
    Shown,
    coverage,
    draw_neighbors,
    farthest_points,
    nearest,
)
from ssl_lib.errors import ConfigError
from ssl_lib.utils.files import check_writable
from ssl_lib.utils.printable import visible
from ssl_lib.utils.tables import text_table

__all__ = ["run_nearest", "run_select"]


def run_nearest(options: argparse.Namespace) -> None:
    """Runs `ssl-lib nearest`."""
    if options.k < 1:
        raise ConfigError(f"-k must be at least 1, got {options.k}")
    writers = Image.registered_extensions()
    if options.output and writers.get(Path(options.output).suffix.lower()) not in Image.SAVE:
        raise ConfigError(f"--output: {options.output} must end in a picture's suffix, such as .png")
    if options.output:
        check_writable(Path(options.output), "grid.png")
    table = EmbeddingTable.load(options.table)
    rows = np.array([call("QUERY", table.find, query) for query in options.queries])
    read = image_reader(table, options.images) if options.output else None
    settings = {"device": options.device, "progress": True}
    found = call("nearest", nearest, table.embeddings, table.embeddings[rows], options.k + 1, **settings)
    pictured = []
    for row, cosines, others in zip(rows.tolist(), *found, strict=True):
        near = [(c, other) for c, other in zip(cosines.tolist(), others.tolist(), strict=True) if other != row]
        near = near[: options.k]
        _print_neighbors(table, row, near)
        if read:
            cells = [(row, None), *((other, cosine) for cosine, other in near)]
            pictured.append([Shown(read(r), str(table.paths[r]), table.label(r), cosine) for r, cosine in cells])
    if options.output:
        save_picture(draw_neighbors(pictured), options.output)
        print(f"a picture of the queries and their neighbors is in {options.output}")
    else:
        print("to draw them: -o grid.png", file=sys.stderr)


def _print_neighbors(table: EmbeddingTable, row: int, near: list[tuple[float, int]]) -> None:
    print(f"{visible(table.paths[row])}  {table.label(row)}".rstrip())
    lines = [("rank", "cosine", "path", "label" if table.labels is not None else "")] + [
        (str(rank), f"{cosine:.4f}", visible(table.paths[other]), table.label(other))
        for rank, (cosine, other) in enumerate(near, start=1)
    ]
    width = max(len(path) for _, _, path, _ in lines)
    for rank, text, path, label in lines:
        print(f"  {rank:>4}  {text:>7}  {path:<{width}}  {label}".rstrip())


def run_select(options: argparse.Namespace) -> None:
    """Runs `ssl-lib select`."""
    table = EmbeddingTable.load(options.table)
    check_list(table, options.output, options.null)
    if not 1 <= options.count <= len(table):
        raise ConfigError(f"-n must be from 1 to {len(table)}, the number of images, got {options.count}")
    if options.seed < 0:
        raise ConfigError(f"--seed must be at least 0, got {options.seed}")
    subsets = {"random": np.random.default_rng(options.seed).permutation(len(table))[: options.count]}
    if options.method == "k-center":
        arguments = {"seed": options.seed, "device": options.device, "progress": True}
        chosen = call("select", farthest_points, table.embeddings, options.count, **arguments)
        subsets = {"k-center": chosen, **subsets}
    settings = {"device": options.device, "progress": True}
    distances = {name: coverage(table.embeddings, rows, **settings) for name, rows in subsets.items()}
    write_list(table.paths[subsets[options.method]].tolist(), options.output, options.null)
    print(f"{options.count:,} of {counted(len(table), 'image')} by {options.method}: {options.output}")
    print("distance of all images to the nearest selected one, between unit vectors (and its cosine)")
    rows = [["", "largest", "mean"]]
    for name, values in distances.items():
        rows.append([name, *(f"{value:.3f} ({1 - value**2 / 2:.3f})" for value in (values.max(), values.mean()))])
    print(text_table(rows))
