"""`ssl-lib duplicates`: exact copies and near-duplicates in a table of embeddings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ssl_lib.cli.common import counted
from ssl_lib.cli.flips import mirrored_embeddings
from ssl_lib.cli.image_source import image_reader, images_root
from ssl_lib.cli.path_lists import check_list, write_list
from ssl_lib.config.resolve import call
from ssl_lib.embedding import EmbeddingTable, SameFiles, duplicate_groups, same_files
from ssl_lib.errors import ConfigError
from ssl_lib.report.duplicates import Group, Member, duplicates_page
from ssl_lib.utils.files import check_writable, write_text
from ssl_lib.utils.printable import visible

__all__ = ["run_duplicates"]

Indices = npt.NDArray[np.int64]

_LINES, _PICTURES = 8, 24  # images per group that are printed, and that are on the page
_PRINTED, _ON_PAGE = 10, 100  # groups, unless --show is given


def run_duplicates(options: argparse.Namespace) -> None:
    """Runs `ssl-lib duplicates`."""
    table = EmbeddingTable.load(options.table)
    page = _check_output(options, table)
    read = image_reader(table, options.images) if page else None
    if read:
        read(0)  # fails before the work if the images are elsewhere
    mirrored = mirrored_embeddings(options, table)
    files = _same_files(table, options.images)
    settings = {"order": None if files is None else files.order, "device": options.device, "progress": True}
    groups = call("duplicates", duplicate_groups, table.embeddings, options.threshold, mirrored=mirrored, **settings)
    found = _Found(table, groups if files is None else files.with_copies(groups), files, mirrored)
    summary = found.summary(options.threshold)
    print("\n".join(summary))
    largest = sorted(found.groups, key=len, reverse=True)
    shown = largest[: max(0, _PRINTED if options.show is None else options.show)]
    for group in shown:
        found.print_group(group)
    if len(shown) < len(largest):
        print(f"{counted(len(largest) - len(shown), 'group')} not shown; --show {len(largest)} prints all")
    _write(options, found, largest, summary, read)


def _check_output(options: argparse.Namespace, table: EmbeddingTable) -> bool:
    """Whether the output is a page; refuses an output that cannot be written."""
    page = str(options.output).lower().endswith((".html", ".htm"))
    if options.null and (page or not options.output):
        raise ConfigError("--null is for a list of paths: give one with --output, such as -o drop.txt")
    if page:
        check_writable(Path(options.output), "groups.html")
    elif options.output:
        check_list(table, options.output, options.null)
    return page


def _same_files(table: EmbeddingTable, images: str | None) -> SameFiles | None:
    """Links and exact copies; None if the table's images are not files, or their folder is unknown."""
    paths = table.paths.tolist()
    if all(path.isdecimal() for path in paths):  # indices of arrays, or of a packed folder
        return None
    if table.made_of.get("pages") == "all":
        print("note: the images are pages of files, so exact copies are not recognized by the files", file=sys.stderr)
        return None
    root = images_root(table, images)
    if root is None and images is not None:
        print("note: the run's images are no files in a folder, so exact copies are not recognized", file=sys.stderr)
        return None
    if root is None or (images is None and not (Path(root) / paths[0]).exists()):
        place = Path(root) / paths[0] if root else Path(paths[0])
        print(
            f"note: {visible(str(place))} is not found, so links and exact copies are not recognized; --images names "
            "the folder of the images",
            file=sys.stderr,
        )
        return None
    return same_files(str(root), paths, progress=True)


def _write(
    options: argparse.Namespace,
    found: _Found,
    largest: list[Indices],
    summary: list[str],
    read: Callable[[int], Tensor] | None,
) -> None:
    if read:
        on_page = largest[: max(0, _ON_PAGE if options.show is None else options.show)]
        if len(on_page) < len(largest):
            left = len(largest) - len(on_page)
            summary = [*summary, f"{counted(left, 'smaller group')} not on this page; --show {len(largest)} adds all"]
        write_text(Path(options.output), duplicates_page([found.pictured(group, read) for group in on_page], summary))
        print(f"a page with {counted(len(on_page), 'group')}: {options.output}")
    elif options.output:
        rows = np.sort(np.concatenate([np.empty(0, np.int64), *(group[1:] for group in found.groups)]))
        write_list(found.table.paths[rows].tolist(), options.output, options.null)
        print(f"paths to drop: {options.output}")
    elif found.groups:
        print("to look at the groups: -o groups.html; to write the paths to drop: -o drop.txt", file=sys.stderr)


@dataclass(frozen=True, eq=False)
class _Found:
    """Groups of rows of a table, the row to keep first."""

    table: EmbeddingTable
    groups: list[Indices]
    files: SameFiles | None
    mirrored: npt.NDArray[np.float32] | None

    def summary(self, threshold: float) -> list[str]:
        dropped = sum(map(len, self.groups)) - len(self.groups)
        repeated = 0 if self.files is None else len(self.files.repeated)
        lines = [
            f"{counted(len(self.groups), 'group')} of near-duplicates (cosine of {threshold:g} or more): "
            f"{dropped:,} of {counted(len(self.table) - repeated, 'image')} to drop"
        ]
        copies = sum(self._is_copy(group[0], row) for group in self.groups for row in group[1:])
        if copies:
            lines.append(f"{counted(copies, 'image')} to drop with exactly the bytes of the image to keep")
        if repeated:
            lines.append(
                f"{counted(repeated, 'path')} through a linked folder to a file that is in the table under another "
                "path: counted once, and never in the list to drop"
            )
        if self.table.labels is not None and self.groups:
            mixed = sum(len(set(self.table.labels[group].tolist())) > 1 for group in self.groups)
            lines.append(f"{counted(mixed, 'group')} with more than one label")
        return lines

    def print_group(self, group: Indices) -> None:
        """Prints the image to keep and the first others with their cosine to it."""
        print(f"{len(group):,} images")
        for row in group[:_LINES].tolist():
            verdict = "drop" if row != group[0] else "keep"
            relation = self._relation(group[0], row)
            print(f"  {verdict}  {relation:<6}  {visible(self.table.paths[row])}  {self.table.label(row)}".rstrip())
        if len(group) > _LINES:
            print(f"  drop  and {len(group) - _LINES:,} more")

    def pictured(self, group: Indices, read: Callable[[int], Tensor]) -> Group:
        """The first images of a group for the page."""
        rows = group[:_PICTURES].tolist()
        relations = ["keep", *(self._relation(group[0], row) for row in rows[1:])]
        members = [
            Member(read(row), str(self.table.paths[row]), self.table.label(row), relation)
            for row, relation in zip(rows, relations, strict=True)
        ]
        return Group(members, len(group))

    def _is_copy(self, kept: int, row: int) -> bool:
        return self.files is not None and bool(self.files.original[row] == self.files.original[kept])

    def _relation(self, kept: int, row: int) -> str:
        """The cosine to the kept image, with a mark if it is of the mirrored image; `copy` for the same bytes."""
        if row != kept and self._is_copy(kept, row):
            return "copy"
        cosine = _cosine(self.table.embeddings[row], self.table.embeddings[kept])
        flipped = -1.0 if self.mirrored is None else _cosine(self.mirrored[row], self.table.embeddings[kept])
        return f"{flipped:.4f} mirrored" if row != kept and flipped > cosine else f"{cosine:.4f}"


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    first, second = a.astype(np.float64), b.astype(np.float64)
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return min(1.0, float(first @ second) / norm) if norm else 0.0
