"""`ssl-lib nearest`, `duplicates` and `select`: neighbors, duplicates and subsets in a table of embeddings."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssl_lib.cli.common import counted, save_picture
from ssl_lib.cli.image_source import image_reader
from ssl_lib.config.resolve import call
from ssl_lib.embedding import (
    EmbeddingTable,
    Shown,
    coverage,
    draw_neighbors,
    duplicate_groups,
    farthest_points,
    nearest,
)
from ssl_lib.embedding.curate import ROUNDING
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.files import check_writable, whole_file
from ssl_lib.utils.tables import text_table

__all__ = ["run_duplicates", "run_nearest", "run_select"]

_LINES = 8  # printed per group


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
    print(f"{_printable(table.paths[row])}  {table.label(row)}".rstrip())
    lines = [("rank", "cosine", "path", "label" if table.labels is not None else "")] + [
        (str(rank), f"{cosine:.4f}", _printable(table.paths[other]), table.label(other))
        for rank, (cosine, other) in enumerate(near, start=1)
    ]
    width = max(len(path) for _, _, path, _ in lines)
    for rank, text, path, label in lines:
        print(f"  {rank:>4}  {text:>7}  {path:<{width}}  {label}".rstrip())


def run_duplicates(options: argparse.Namespace) -> None:
    """Runs `ssl-lib duplicates`."""
    if options.output:
        check_writable(Path(options.output), "drop.txt")
    table = EmbeddingTable.load(options.table)
    arguments = {"device": options.device, "progress": True}
    groups = call("duplicates", duplicate_groups, table.embeddings, options.threshold, **arguments)
    dropped = sum(map(len, groups)) - len(groups)
    print(
        f"{counted(len(groups), 'group')} of near-duplicates (cosine of {options.threshold:g} or more): "
        f"{dropped:,} of {counted(len(table), 'image')} to drop"
    )
    if table.labels is not None and groups:
        mixed = sum(len(set(table.labels[group].tolist())) > 1 for group in groups)
        print(f"{counted(mixed, 'group')} with more than one label")
    shown = sorted(groups, key=len, reverse=True)[: max(0, options.show)]
    least = min((_print_group(table, group) for group in shown), default=1.0)
    if len(shown) < len(groups):
        left = len(groups) - len(shown)
        print(f"{counted(left, 'group')} not shown; --show {len(groups)} prints all")
    if least < options.threshold - ROUNDING:
        print(
            f"some images in a group have a cosine of only {least:.4f}, since other images connect them; a higher "
            "--threshold separates them"
        )
    if options.output:
        rows = np.concatenate([np.empty(0, np.int64), *(group[1:] for group in groups)])
        _write_paths(table, np.sort(rows), options.output)
        print(f"paths to drop: {options.output}")
    elif groups:
        print("to write the paths to drop to a file: -o drop.txt", file=sys.stderr)


def _print_group(table: EmbeddingTable, group: npt.NDArray[np.int64]) -> float:
    """Prints the image to keep and the others with their cosine to it; returns the smallest cosine."""
    cosines, order = nearest(table.embeddings[group], table.embeddings[group[:1]], len(group))
    to_first = dict(zip(group[order[0]].tolist(), cosines[0].tolist(), strict=True))
    print(f"{len(group):,} images")
    for row in group[:_LINES].tolist():
        verdict = "drop" if row != group[0] else "keep"
        print(f"  {verdict}  {to_first[row]:.4f}  {_printable(table.paths[row])}  {table.label(row)}".rstrip())
    if len(group) > _LINES:
        print(f"  drop  and {len(group) - _LINES:,} more")
    return float(cosines.min())


def run_select(options: argparse.Namespace) -> None:
    """Runs `ssl-lib select`."""
    check_writable(Path(options.output), "selected.txt")
    table = EmbeddingTable.load(options.table)
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
    _write_paths(table, subsets[options.method], options.output)
    print(f"{options.count:,} of {counted(len(table), 'image')} by {options.method}: {options.output}")
    print("distance of all images to the nearest selected one, between unit vectors (and its cosine)")
    rows = [["", "largest", "mean"]]
    for name, values in distances.items():
        rows.append([name, *(f"{value:.3f} ({1 - value**2 / 2:.3f})" for value in (values.max(), values.mean()))])
    print(text_table(rows))


def _write_paths(table: EmbeddingTable, rows: npt.NDArray[np.int64], target: str) -> None:
    """Writes a line per path, as bytes of the file system."""
    paths = table.paths[rows].tolist()
    broken = next((path for path in paths if "\n" in path), None)
    if broken is not None:
        raise DataError(
            f"{broken!r} has a line break in its name, but {target} holds a path per line: rename that file"
        )
    with whole_file(Path(target)) as partial:
        partial.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in paths))


def _printable(path: str) -> str:
    """Escapes the bytes of a path that are not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()
