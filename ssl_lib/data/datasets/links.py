"""Links among image files: the real paths of images, and images that a data set contains twice through a link."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set

from ssl_lib.data.base import warn

__all__ = ["RealPaths", "warn_of_repeated"]

_MOST_LINKS = 40  # a longer chain of links cannot be opened, as in Linux


class RealPaths:
    """Finds real paths as `os.path.realpath` does, but resolves each folder once, and files only if they are links."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: str, is_link: bool) -> str:
        """Returns the real path of a file.

        Args:
            path: The file.
            is_link: Whether the file itself is a link.
        """
        real = self._below(*os.path.split(path))
        for _ in range(_MOST_LINKS if is_link else 0):
            try:
                target = os.readlink(real)
            except OSError:  # not a link
                break
            real = self._below(*os.path.split(os.path.join(os.path.dirname(real), target)))
        return real

    def _below(self, folder: str, name: str) -> str:
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)


def warn_of_repeated(root: str, paths: Sequence[str], classes: Sequence[str | None], links: Set[str]) -> None:
    """Warns of images that are listed more than once, because files or folders are links.

    Args:
        root: The folder.
        paths: The images, relative to the folder.
        classes: The class of each image, or None.
        links: The paths that are links.
    """
    real, first = RealPaths(), dict[str, int]()
    repeated, conflicts = list[tuple[str, str]](), list[tuple[str, str]]()
    for index, path in enumerate(paths):
        other = first.setdefault(real(os.path.join(root, path), path in links), index)
        if other != index:
            (repeated if classes[index] == classes[other] else conflicts).append((paths[other], path))
    if repeated or conflicts:
        one, again = (conflicts or repeated)[0]
        warn(
            f"{root}: {one} and {again} are the same file, through a link (such pairs: "
            f"{len(repeated) + len(conflicts):,}, in two classes: {len(conflicts):,}): remove the links, or leave them "
            "out with data.exclude"
        )
