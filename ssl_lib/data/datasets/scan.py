"""Listing of the image files in one or several folders, with the class of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ssl_lib.data.base import warn
from ssl_lib.data.datasets.layout import (
    Layout,
    check_folder,
    check_layout,
    class_folders,
    read_labels,
    read_paths,
    report_listing,
)
from ssl_lib.data.datasets.links import warn_of_repeated
from ssl_lib.data.datasets.splits import check_no_splits
from ssl_lib.data.io.index import list_images
from ssl_lib.data.io.patterns import patterns_in
from ssl_lib.distributed import rank
from ssl_lib.errors import DataError, listed

__all__ = ["Roots", "Scanned", "expanded", "found", "labeled", "numbered", "report_unused", "scan", "selected"]

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


class Scanned(NamedTuple):
    """Images in folders.

    Attributes:
        paths: Their paths relative to the common folder.
        classes: The class folder of each, or None.
        links: The paths that are links.
        repeated: Whether images may be listed twice, because files or folders are links.
    """

    paths: list[str]
    classes: list[str | None]
    links: set[str]
    repeated: bool


def scan(
    roots: list[str],
    base: str,
    layout: Layout,
    exclude: Sequence[str],
    known: bool,
    complete: bool = True,
    whole: bool = True,
) -> Scanned:
    """Lists the images in folders.

    Args:
        roots: The folders.
        base: The folder that contains them.
        layout: See `FolderData`. The classes of "auto" are the subfolders of all folders together.
        exclude: See `FolderData`.
        known: Whether the classes are known, so that one class folder is enough.
        complete: Whether the class folders are the labels, so that they have to be complete.
        whole: Whether all images are used, so that there must be no splits among them.

    Raises:
        DataError: There are no images; or a class without images; or splits, see `check_no_splits`.
    """
    check_layout(layout)
    listings = [list_images(root, patterns_in(root, exclude)) for root in roots]
    names = {name for listing in listings for name in listing.with_images if name}
    at_least = 1 if known or (len(roots) > 1 and len(names) > 1) else 2
    places = [place for listing in listings for place in listing.folders.values()]
    result = Scanned([], [], set(), len(set(places)) < len(places))
    if layout == "auto" and whole:
        for root, listing in zip(roots, listings, strict=True):
            check_no_splits(root, (folder for folder, _ in listing.images), known)
        check_no_splits(base, (f"{name}/" for name in sorted(names)), known)  # the classes of several roots are one set
    for root, listing in zip(roots, listings, strict=True):
        report_listing(root, listing, exclude)
        folders = set(class_folders(root, listing, layout, at_least) if complete else ())
        prefix = "" if root == base else os.path.relpath(root, base) + os.sep
        result.links.update(prefix + path for path in listing.links)
        for folder, files in listing.images:
            top = folder.partition("/")[0]
            result.paths.extend(prefix + folder + name for name in files)
            result.classes.extend([top if top in folders else None] * len(files))
    return result._replace(repeated=result.repeated or bool(result.links))


def report_unused(places: Sequence[Roots | None], exclude: Sequence[str] | str) -> None:
    """Warns of each pattern of `exclude` that leaves out nothing, for instance because it is misspelled.

    Args:
        places: The folders of all splits of a data set, and the folder that contains them; None is skipped.
        exclude: The patterns.
    """
    patterns = [exclude] if isinstance(exclude, str) else exclude
    roots = list(dict.fromkeys(root for place in places if place for root in expanded(place))) if patterns else []
    try:
        whole = [(root, list_images(root)) for root in roots]
    except DataError:  # a pattern leaves out what cannot be listed
        return
    for pattern in patterns:
        if all(list_images(root, patterns_in(root, [pattern])) == listing for root, listing in whole):
            warn(f"data.exclude: {pattern!r} leaves out nothing in {listed(roots)}")


def selected(
    images: Scanned, roots: list[str], base: str, files: str | Path | None, labels: str | Path | None
) -> tuple[list[str], list[str | None]]:
    """Returns the paths and classes of the images that a list of files and a table of labels choose.

    Warns of images that are chosen twice, through links.
    """
    paths, classes = images.paths, images.classes
    kept = list(range(len(paths)))
    if files is not None:
        kept = sorted(set(found(read_paths(files), paths, roots, base, files)))
    if labels is not None:
        kept, classes = labeled(read_labels(labels), kept, paths, roots, base, labels)
    paths, classes = [paths[place] for place in kept], [classes[place] for place in kept]
    if images.repeated and rank() == 0:
        warn_of_repeated(base, paths, classes, images.links)
    return paths, classes


def found(wanted: Sequence[str], paths: list[str], roots: list[str], base: str, file: str | Path) -> list[int]:
    """Returns the positions in `paths` of the wanted files: relative to a root or the folder above it, or absolute."""
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
        if not several:  # from the folder above the root, such as train/cat/1.jpg for the split train
            parents = [os.path.dirname(os.path.abspath(root)) for root in roots]
            above = [os.path.relpath(os.path.join(parent, path), base) for parent in parents]
            several = sorted({places[option] for option in above if option in places})
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
