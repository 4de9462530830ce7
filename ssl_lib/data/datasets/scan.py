"""Listing of the image files in one or several folders, with the class of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ssl_lib.data.base import warn
from ssl_lib.data.datasets.layout import Layout, check_folder, check_layout, class_folders, patterns_in, report_listing
from ssl_lib.data.io.index import list_images
from ssl_lib.errors import DataError, listed

__all__ = ["Roots", "expanded", "found", "labeled", "numbered", "scan"]

Roots: TypeAlias = str | Path | Sequence[str | Path]


def expanded(root: Roots) -> list[str]:
    """Returns the folders, none of which contains another."""
    roots = [str(Path(folder).expanduser()) for folder in ([root] if isinstance(root, str | Path) else root)]
    if not roots:
        raise DataError("root is empty: set data.root to at least one folder")
    for folder in roots:
        check_folder(folder)
    real = [os.path.realpath(folder) for folder in roots]
    for one, folder in enumerate(real):
        for other in real[:one]:
            if os.path.commonpath([folder, other]) in (folder, other):
                raise DataError(f"{roots[one]} and {other} contain the same images: give one of them")
    return roots


def scan(
    roots: list[str], base: str, layout: Layout, exclude: Sequence[str], known: bool, complete: bool
) -> tuple[list[str], list[str | None]]:
    """Returns the paths of the images relative to `base`, and their class folders.

    Args:
        roots: The folders.
        base: The folder that contains them.
        layout: See `FolderData`.
        exclude: See `FolderData`.
        known: Whether the classes are known, so that one class folder is enough.
        complete: Whether the class folders are the labels, so that they have to be complete.
    """
    paths: list[str] = []
    classes: list[str | None] = []
    check_layout(layout)
    for root in roots:
        listing = list_images(root, patterns_in(root, exclude))
        report_listing(root, listing, exclude)
        folders = set(class_folders(root, listing, layout, 1 if known else 2) if complete else ())
        prefix = "" if root == base else os.path.relpath(root, base) + os.sep
        for folder, names in listing.images:
            top = folder.partition("/")[0]
            paths.extend(prefix + folder + name for name in names)
            classes.extend([top if top in folders else None] * len(names))
    return paths, classes


def found(wanted: Sequence[str], paths: list[str], roots: list[str], base: str, file: str | Path) -> list[int]:
    """Returns the positions in `paths` of the wanted files, which are relative to a root or absolute."""
    places = {os.path.normpath(path): place for place, path in enumerate(paths)}
    prefixes = [os.path.relpath(root, base) for root in roots]
    positions, missing = [], []
    for path in wanted:
        options = [os.path.join(prefix, path) for prefix in prefixes]
        if os.path.isabs(path):
            folder, name = os.path.split(path)
            real = os.path.join(os.path.realpath(folder), name)  # the root may be given through a link, or the path
            options = list({os.path.relpath(path, base), os.path.relpath(real, os.path.realpath(base))})
        several = sorted({places[option] for option in map(os.path.normpath, options) if option in places})
        if len(several) > 1:
            raise DataError(f"{file}: {path} is in several roots ({listed(paths[place] for place in several)})")
        positions.append(several[0]) if several else missing.append(path)
    if missing:
        raise DataError(
            f"{file}: {len(missing):,} of {len(wanted):,} paths are not images in {listed(roots)}, such as {missing[0]}"
        )
    return positions


def labeled(
    table: dict[str, str], kept: list[int], paths: list[str], roots: list[str], base: str, file: str | Path
) -> tuple[list[int], list[str | None]]:
    """Returns the positions in `kept` of the images in a table of labels, and the class of each image, or None."""
    classes: list[str | None] = [None] * len(paths)
    for place, name in zip(found(list(table), paths, roots, base, file), table.values(), strict=True):
        if classes[place] not in (None, name):
            raise DataError(f"{file}: {paths[place]} has two classes, {classes[place]} and {name}")
        classes[place] = name
    with_class = [place for place in kept if classes[place] is not None]
    if not with_class:
        raise DataError(f"{file}: none of the {len(kept):,} images has a class in it")
    if len(with_class) < len(kept):
        left_out = len(kept) - len(with_class)
        warn(f"{file}: {left_out:,} of {len(kept):,} images have no class in it and are left out")
    return with_class, classes


def numbered(
    classes: Sequence[str | None], class_names: tuple[str, ...], root: str
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Returns class indices and names of the images; None and empty if no image has a class."""
    found = {name: None for name in classes if name is not None}
    if not found:
        return None, ()
    if None in classes:
        raise DataError(f"{root}: some folders have class folders, others do not; set data.layout=classes or flat")
    names = class_names or tuple(sorted(found))
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(
            f"{os.path.join(root, unknown[0])}: the training images have no class {unknown[0]!r}; "
            f"their {len(names)} classes are {listed(names, 8)}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[name] for name in classes if name is not None]), names
