"""Layout of an image folder: its class folders, lists of files and tables of labels."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ssl_lib.data.base import warn
from ssl_lib.data.io.formats import EXTENSIONS, hint
from ssl_lib.data.io.index import Listing
from ssl_lib.data.io.patterns import pattern_list
from ssl_lib.errors import DataError, listed

__all__ = [
    "Layout",
    "check_folder",
    "check_layout",
    "class_folders",
    "read_labels",
    "read_paths",
    "report_listing",
]

Layout: TypeAlias = Literal["auto", "splits", "classes", "flat"]

_MASK = re.compile(r"[-_ .](masks?|seg|segmentation|labels?|annotations?|gt)$", re.IGNORECASE)
_NO_CLASSES = ("images", "image", "imgs", "img", "masks", "mask", "labels", "label", "annotations", "segmentation")


def class_folders(root: str, listing: Listing, layout: Layout, at_least: int = 2) -> list[str]:
    """Returns the subfolders that are classes, sorted by name; empty if the images have no labels.

    Args:
        root: The folder, for messages.
        listing: Its images.
        layout: "classes" requires class folders, "flat" ignores them; "auto" takes subfolders with images as classes,
            if there are `at_least` and no image is next to them.
        at_least: See `layout`.

    Raises:
        DataError: A class folder has no image that can be read; or `layout` is "classes" and there are no class
            folders, or images next to them.
    """
    if layout == "flat":
        return []
    names = listing.with_images
    loose = next((name for folder, found in listing.images if not folder for name in found), None)
    folders = [name for name in names if name]
    if layout == "classes" and (loose or not folders):
        found = f"{os.path.join(root, loose)} is not in a class folder" if loose else f"{root} has no class folders"
        raise DataError(f"{found}: move it, leave it out with data.exclude, or set data.layout=flat")
    if loose:
        if len(folders) >= at_least:
            warn(
                f"{os.path.join(root, loose)} is next to {len(folders)} folders, so they are not classes and the "
                "images have no labels: move it, leave it out with data.exclude, or set data.layout=flat"
            )
        return []
    classes = layout == "classes" or len(folders) >= at_least
    for name in listing.subfolders:
        left_out = listing.left_out[name]
        empty = classes and not _has_files(os.path.join(root, name))
        if name not in folders and (empty or (folders and left_out)):
            content = _counted(left_out) or "no files"
            raise DataError(
                f"{os.path.join(root, name)} is a class without images that can be read "
                f"({content}){hint(set(left_out))}; remove the folder, leave it out with "
                f"data.exclude={pattern_list([name])}, or set data.layout=flat for images without labels"
            )
    if classes and layout == "auto":
        _warn_about_masks(root, folders)
    return folders if classes else []


def _warn_about_masks(root: str, folders: Sequence[str]) -> None:
    odd = [name for name in folders if name.lower() in _NO_CLASSES]
    if odd:
        warn(
            f"{root}: {listed(odd)} and {len(folders) - len(odd)} other folders are taken as classes: set "
            "data.layout=flat for images without labels, leave out masks with data.exclude, or set "
            "data.layout=classes if they are classes"
        )


def _has_files(folder: str) -> bool:
    """Whether there is a file at any depth; hidden ones such as .DS_Store do not count."""
    return any(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def report_listing(root: str, listing: Listing, exclude: Sequence[str] | str = ()) -> None:
    """Warns about files that are left out, and about pairs of files that may be images and their masks.

    Raises:
        DataError: There are no images.
    """
    left_out: Counter[str] = sum(listing.left_out.values(), Counter())
    if not listing.images:
        found = f"; found {_counted(left_out)}{hint(set(left_out))}" if left_out else ""
        expected = f"expected *{', *'.join(EXTENSIONS)}"
        rest = f" after data.exclude={exclude if isinstance(exclude, str) else list(exclude)}" if exclude else ""
        raise DataError(f"{root}: no images in this folder or its subfolders{rest} ({expected}{found})")
    if left_out:
        warn(f"{root}: left out {_counted(left_out)}: such files are not read as images{hint(set(left_out))}")
    _warn_of_pairs(root, listing)


def _warn_of_pairs(root: str, listing: Listing) -> None:
    """Warns about images whose name is that of another image but for the ending, or for a word such as _mask."""
    pairs = [pair for folder, names in listing.images for pair in _named_alike(folder, names)]
    if not pairs:
        return
    image, other = pairs[0]
    word = _MASK.search(os.path.splitext(other)[0])
    pattern = f"*{word[0]}.*" if word else f"*{os.path.splitext(other)[1]}"
    chosen = sum(fnmatchcase(os.path.basename(path), pattern) for path in listing.paths)
    fix = f"data.exclude=['{pattern}']" if chosen == len(pairs) else "data.exclude, or list the images in data.files"
    warn(
        f"{root}: {len(pairs):,} images have the name of another image with another ending or a word such as _mask, "
        f"such as {image} and {other}; if these are masks, leave them out with {fix}"
    )


def _named_alike(folder: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns pairs of an image and another one that may be its mask."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(os.path.splitext(name)[0], name)
    found = []
    for name in names:
        stem = os.path.splitext(name)[0]
        image = first[stem] if first[stem] != name else first.get(_MASK.sub("", stem), name)
        if image != name:
            found.append((folder + image, folder + name))
    return found


def _counted(endings: Counter[str]) -> str:
    return listed([f"{count:,} {ending}" for ending, count in endings.most_common()], 8)


def read_paths(file: str | Path) -> list[str]:
    """Reads a text file with one path per line; empty lines are ignored.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    paths = [line.removesuffix("\r") for line in _text(file, "surrogateescape").split("\n") if line.strip()]
    if not paths:
        raise DataError(f"{file} contains no paths; expected one per line")
    return paths


def read_labels(file: str | Path) -> dict[str, str]:
    """Reads a CSV file with the columns path and class; other columns are ignored.

    Raises:
        DataError: The file cannot be read or is empty, has no such columns, or has two classes for one path.
    """
    rows = csv.DictReader(io.StringIO(_text(file), newline=""), skipinitialspace=True)
    labels: dict[str, str] = {}
    try:
        if not {"path", "class"} <= set(rows.fieldnames or ()):
            raise DataError(f"{file}: the first line must name the columns path and class, got {rows.fieldnames}")
        for row in rows:
            path, name = row["path"], row["class"]
            if not path or not name or None in row:
                got = f"{path!r} and {name!r}{' and more columns than the first line' if None in row else ''}"
                raise DataError(f"{file}, line {rows.line_num}: a path and a class are needed, got {got}")
            if labels.setdefault(path, name) != name:
                raise DataError(f"{file}, line {rows.line_num}: {path} has two classes, {labels[path]} and {name}")
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.line_num}: cannot be read as CSV ({error})") from error
    if not labels:
        raise DataError(f"{file} contains no rows; expected a path and a class in each")
    return labels


def _text(file: str | Path, errors: str = "strict") -> str:
    try:
        return Path(file).expanduser().read_bytes().decode("utf-8-sig", errors)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text in UTF-8 ({error})") from error


def check_layout(layout: str) -> None:
    """Raises a ValueError if a layout does not exist."""
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")


def check_folder(root: str) -> None:
    """Raises a DataError if a path is not a folder."""
    if not os.path.isdir(root):
        problem = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        tip = "" if os.path.isabs(root) else f" ({root!r} is relative to the working directory)"
        raise DataError(f"{os.path.abspath(root)} {problem}; expected a folder of images{tip}")
