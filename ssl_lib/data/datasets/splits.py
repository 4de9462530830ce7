"""Splits of an image folder: subfolders with the usual names, such as train and val, in any case."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ssl_lib.data.base import warn
from ssl_lib.data.datasets.layout import Layout, check_folder, check_layout
from ssl_lib.data.io.formats import extensions
from ssl_lib.data.io.index import Listing, excluded, list_images, patterns_in
from ssl_lib.errors import DataError, listed

__all__ = ["anchored", "check_no_splits", "find_splits"]

Role = Literal["train", "validation", "test"]

_SUFFIX = r"([-_ ]?(set|split|data|images|imgs|\d{4}))?"  # training_set, train2017
_ROLES: dict[Role, str] = {  # test images are those of the first of the last two
    "train": rf"(train|training){_SUFFIX}",
    "validation": rf"(val|valid|validation|dev|eval){_SUFFIX}",
    "test": rf"(test|testing){_SUFFIX}",
}


def find_splits(root: Path, layout: Layout, exclude: Sequence[str]) -> tuple[Path, Path | None]:
    """Returns the folder of the training images and the folder of the test images, if there is one.

    Args:
        root: The folder.
        layout: "auto" looks for subfolders with the usual names of splits, in any case; "splits" requires them and
            ignores all others; "classes" and "flat" have none.
        exclude: Subfolders to ignore, see `excluded`.

    Raises:
        DataError: The folder is missing; there is a split but no training split; two subfolders have the same role; or
            `layout` is "auto" and there are other folders with images, or images, next to a split.
    """
    check_folder(str(root))
    check_layout(layout)
    if layout in ("classes", "flat"):
        return root, None
    entries = _entries(root, exclude)
    folders = sorted(entry.name for entry in entries if entry.is_dir())
    train, validation, test = (_named(root, folders, role) for role in _ROLES)
    choice = "set data.layout=splits, classes or flat"
    if train is None:
        if layout == "splits" or validation or test:
            found = listed([f"{name}/" for name in folders], 8) or "no folder"
            raise DataError(f"{root} has no training split (train or training); found {found}: {choice}")
        return root, None
    others = [name for name in folders if name not in (train, validation, test)]
    others = [f"{name}/" for name in others if _has_images(root / name, exclude)]
    others += [entry.name for entry in entries if not entry.is_dir() and entry.name.lower().endswith(extensions())]
    if others and layout == "auto":
        raise DataError(
            f"{root} has the split {train}/, and next to it {listed(others, 8)}: {choice}, or leave them out with "
            f"data.exclude=[{others[0].rstrip('/')}]"
        )
    if others:
        warn(f"{root}: layout=splits ignores {listed(others, 8)}")
    if validation and test and _has_images(root / test, exclude):
        warn(
            f"{root}: the evaluation uses {validation}/, and {test}/ is not used: for an evaluation on it set "
            f"data.test_root={root / test}"
        )
    chosen = validation or test
    return root / train, root / chosen if chosen else None


def check_no_splits(root: str, listing: Listing, known: bool) -> None:
    """Refuses images in splits that are not those of the data set, so that none are trained on as classes.

    Args:
        root: The folder, for messages.
        listing: Its images.
        known: Whether the classes are known, so that a class may be called train.

    Raises:
        DataError: A folder of `listing` has a subfolder for training images, and another one for test images; or the
            subfolders of the root are classes and one of them is named like a split.
    """
    below: defaultdict[str, list[str]] = defaultdict(list)
    for parent, name in dict.fromkeys(_ancestors(folder for folder, _ in listing.images)):
        below[parent].append(name)
    for parent, names in below.items():
        roles = {role: name for name in names if (role := role_of(name))}
        class_of_that_name = not parent and (known or len(names) < 2)
        if not roles or class_of_that_name or (parent and len(roles) < 2):
            continue
        place = os.path.join(root, parent)
        found = " and ".join(f"{name}/" for name in roles.values())
        some = next((name for role, name in roles.items() if role != "train"), next(iter(roles.values())))
        usual = f"give {os.path.join(place, roles['train'])} alone, " if "train" in roles and len(roles) > 1 else ""
        raise DataError(
            f"{place} has {found}, named like splits, but here all folders are used together: {usual}leave some out "
            f"with data.exclude=[{some}], or set data.layout=classes if they are classes, or data.layout=flat to use "
            "all images without labels"
        )


def role_of(name: str) -> Role | None:
    """Returns the role of a folder with the usual name of a split, or None."""
    return next((role for role, names in _ROLES.items() if re.fullmatch(names, name, re.IGNORECASE)), None)


def anchored(root: str | Path, exclude: Sequence[str]) -> tuple[str, ...]:
    """Adds the absolute form of each pattern from the root, such as 2019/raw, which matches in its subfolders, too."""
    start = glob.escape(os.path.realpath(root))
    paths = [pattern for pattern in exclude if "/" in pattern.rstrip("/") and not pattern.startswith("**/")]
    return (*exclude, *(f"{start}/{path.lstrip('/')}" for path in paths if not os.path.isabs(path)))


def _entries(root: Path, exclude: Sequence[str]) -> list[os.DirEntry[str]]:
    patterns = patterns_in(str(root), exclude)
    try:
        entries = [entry for entry in os.scandir(root) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror})") from error
    return [entry for entry in entries if not excluded(entry.name, patterns)]


def _has_images(folder: Path, exclude: Sequence[str]) -> bool:
    return bool(list_images(str(folder), patterns_in(str(folder), exclude)).images)


def _named(root: Path, folders: Sequence[str], role: Role) -> str | None:
    """Returns the only folder with one of the names of a role."""
    found = [folder for folder in folders if role_of(folder) == role]
    if len(found) > 1:
        raise DataError(f"{root} has {listed(found)} for one split: leave out one with data.exclude=[{found[1]}]")
    return found[0] if found else None


def _ancestors(folders: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The parent and the name of each folder and of all folders above it; "" is the root."""
    for folder in folders:
        parent = ""
        for name in folder.split("/")[:-1]:
            yield parent, name
            parent += f"{name}/"
