"""Lists of paths that commands write: a line per path, or with `--null` a zero byte after each path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ssl_lib.embedding import EmbeddingTable
from ssl_lib.errors import DataError
from ssl_lib.utils.files import check_writable, whole_file
from ssl_lib.utils.printable import visible

__all__ = ["check_list", "write_list"]


def check_list(table: EmbeddingTable, target: str, null: bool) -> None:
    """Refuses a list that cannot be written, before the work that selects some of the paths.

    Raises:
        ConfigError: `target` cannot be written.
        DataError: A path has a line break, and the list has a line per path; or the images are pages of files, so that
            a path would stand for all pages of its file.
    """
    check_writable(Path(target), "list.txt")
    if table.made_of.get("pages") == "all":
        raise DataError(
            f"the images are pages of files, and {target} would name whole files: save each page to a file of its own "
            "first, or look at the images with a .html page or a .png grid"
        )
    broken = None if null else next((path for path in table.paths.tolist() if "\n" in path or "\r" in path), None)
    if broken is not None:
        name = visible(str(broken)).replace("\n", r"\n")
        raise DataError(
            f"'{name}' has a line break in its name, but {target} holds a path per line: rename that file, or add "
            "--null to end each path with a zero byte instead (read by rsync --from0 and xargs -0)"
        )


def write_list(paths: Iterable[str], target: str, null: bool) -> None:
    """Writes paths as bytes of the file system."""
    end = b"\0" if null else b"\n"
    with whole_file(Path(target)) as partial:
        partial.write_bytes(b"".join(os.fsencode(path) + end for path in paths))
