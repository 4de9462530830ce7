"""Splits of an image folder: subfolders with the usual names, such as train and val, in any case."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from ssl_lib.data.base import warn
from ssl_lib.data.datasets.layout import Layout, check_folder, check_layout
from ssl_lib.data.io.formats import extensions
from ssl_lib.data.io.index import list_images
from ssl_lib.data.io.patterns import excluded, pattern_list, patterns_in
from ssl_lib.errors import DataError, listed

__all__ = ["check_no_splits", "find_splits", "patterns_below"]

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
        names = pattern_list(name.rstrip("/") for name in others)
        raise DataError(
            f"{root} has the split {train}/, and next to it {listed(others, 8)}: {choice}, or leave them out with "
            f"data.exclude={names}"
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


def check_no_splits(root: str, folders: Iterable[str], known: bool) -> None:
    """Refuses images in splits that are not those of the data set, so that none are trained on as classes.

    Args:
        root: The folder, for messages.
        folders: The folders with images below it, with a "/" at the end.
        known: Whether the classes are known, so that classes may be called train and test.

    Raises:
        DataError: A folder has a subfolder for training images, and another one for test images.
    """
    below: defaultdict[str, list[str]] = defaultdict(list)
    for parent, name in dict.fromkeys(_ancestors(folders)):
        below[parent].append(name)
    for parent, names in below.items():
        roles = {role: name for name in names if (role := role_of(name))}
        if len(roles) < 2 or (known and not parent):
            continue
        place = os.path.join(root, parent)
        found = " and ".join(f"{name}/" for name in roles.values())
        some = next(name for role, name in roles.items() if role != "train")
        train = os.path.join(place, roles.get("train", "-"))
        usual = f"give {train} alone, " if os.path.isdir(train) else ""
        raise DataError(
            f"{place} has {found}, named like splits, but here all folders are used together: {usual}leave some out "
            f"with data.exclude={pattern_list([some])}, or set data.layout=classes if they are classes, or "
            "data.layout=flat to use all images without labels"
        )


def role_of(name: str) -> Role | None:
    """Returns the role of a folder with the usual name of a split, or None."""
    return next((role for role, names in _ROLES.items() if re.fullmatch(names, name, re.IGNORECASE)), None)


def patterns_below(root: str | Path, folder: str, exclude: Sequence[str]) -> tuple[str, ...]:
    """Returns the patterns for the contents of a subfolder: train/bad, from the root, is /bad in the folder train.

    Args:
        root: The folder to which the patterns are relative.
        folder: The name of the subfolder.
        exclude: The patterns, see `excluded`; absolute ones are kept, too.
    """
    below = [pattern for pattern in exclude if os.path.isabs(pattern)]
    for pattern in patterns_in(str(root), exclude):
        anywhere = pattern.startswith("**/") or "/" not in pattern.rstrip("/")
        first, _, rest = pattern.removeprefix("**/").removeprefix("/").partition("/")
        below += [pattern] if anywhere else []
        below += [f"/{rest}"] if rest.strip("/") and fnmatchcase(folder, first) else []
    return tuple(below)


def _entries(root: Path, exclude: Sequence[str]) -> list[os.DirEntry[str]]:
    patterns = patterns_in(str(root), exclude)
    try:
        entries = [entry for entry in os.scandir(root) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror})") from error
    return [entry for entry in entries if not excluded(entry.name, patterns)]


def _has_images(folder: Path, exclude: Sequence[str]) -> bool:
    patterns = patterns_below(folder.parent, folder.name, exclude)
    return bool(list_images(str(folder), patterns_in(str(folder), patterns)).images)


def _named(root: Path, folders: Sequence[str], role: Role) -> str | None:
    """Returns the only folder with one of the names of a role."""
    found = [folder for folder in folders if role_of(folder) == role]
    if len(found) > 1:
        raise DataError(
            f"{root} has {listed(found)} for one split: leave out one with data.exclude={pattern_list(found[1:])}"
        )
    return found[0] if found else None


def _ancestors(folders: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The parent and the name of each folder and of all folders above it; "" is the root."""
    for folder in folders:
        parent = ""
        for name in folder.split("/")[:-1]:
            yield parent, name
            parent += f"{name}/"
