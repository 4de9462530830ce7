"""Data set of the image files in folders, with one subfolder per class, a table of labels, or without labels."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lib.data.base import ImageDataset
from ssl_lib.data.datasets.layout import Layout
from ssl_lib.data.datasets.links import RealPaths
from ssl_lib.data.datasets.scan import Roots, expanded, numbered, scan, selected
from ssl_lib.data.io.decode import Decoder, OnError, Reading, Unpack
from ssl_lib.data.io.pages import pages_of
from ssl_lib.data.io.sample import sample_of_names
from ssl_lib.data.io.stored import unreadable_because
from ssl_lib.data.io.survey import sampled, survey
from ssl_lib.data.labels import hold_out_indices
from ssl_lib.errors import DataError

__all__ = ["FolderData"]


class FolderData(ImageDataset):
    """An `ImageData` of the image files under one or several folders, sorted by path (see `list_images`).

    If a folder itself contains no images and at least two of its subfolders do (at any depth), these subfolders are
    the classes, sorted by name. Otherwise the images have no labels. Files that are left out are reported.

    Args:
        root: The folder, or several.
        channels: 3 for RGB, 1 for gray; replaced by the number of `bands`, if they are given.
        mean: Mean of each channel in [0, 1]; None is ImageNet's, or computed from a sample for other channels.
        std: Standard deviation of each channel; None as for `mean`.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (see `SkipImage`).
        class_names: The expected classes, so that the labels match those of another folder. If empty, the subfolders
            are the classes.
        layout: "auto", see above; "classes" requires class folders; "flat" has no labels.
        exclude: Glob patterns of files and folders to leave out, such as "*.gif" and "thumbs" at any depth, or
            "2019/raw" from the root.
        files: A text file with the paths of the images to use, one per line, relative to `root` or absolute.
        labels: A CSV file with the columns path and class. Only these images are used.
        reading: See `Reading`.

    Attributes:
        root: The folder, or the common folder of several.
        roots: The folders.
        skipped: The unreadable files that loaders skipped so far, in any worker process.

    Raises:
        DataError: A folder is missing, is a file or has no images, a listed file is missing, or there is a class that
            is not in `class_names`.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        root: Roots,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        on_error: OnError = "raise",
        class_names: tuple[str, ...] = (),
        *,
        layout: Layout = "auto",
        exclude: Sequence[str] = (),
        files: str | Path | None = None,
        labels: str | Path | None = None,
        **reading: Unpack[Reading],
    ) -> None:
        decoder = Decoder(channels=channels, on_error=on_error, **reading)
        self.roots = roots = expanded(root)
        self.root = roots[0] if len(roots) == 1 else os.path.commonpath(list(map(os.path.abspath, roots)))
        self.skipped: list[str] = []
        self._starts = [os.path.relpath(folder, self.root) + os.sep for folder in roots]
        whole = files is None and labels is None
        images = scan(roots, self.root, layout, exclude, bool(class_names), labels is None, whole)
        paths, classes = selected(images, roots, self.root, files, labels)
        self.labels, self.class_names = numbered(classes, class_names, self.root)
        pages = pages_of(decoder, [os.path.join(self.root, path) for path in paths])
        self._pages: Tensor | None = None
        if pages is not None:
            counts = torch.tensor(list(map(len, pages)))
            self._pages = torch.tensor(list(itertools.chain(*pages)))
            paths = [path for path, numbers in zip(paths, pages, strict=True) for _ in numbers]
            self.labels = None if self.labels is None else self.labels.repeat_interleave(counts)
        # One array of bytes, not a list: updating reference counts would copy the list in every forked worker.
        self._paths = np.array(os.fsencode("\0".join(paths)).split(b"\0"))
        self._links = np.array([path in images.links for path in paths]) if images.links else None
        self._real_path = RealPaths()
        sample = sampled(sample_of_names(paths), self.path, self.path, decoder)
        self.decoder, self.mean, self.std = survey(decoder, sample, mean, std)
        self.channels, self.on_error = self.decoder.channels, on_error
        if on_error == "skip" and self.labels is not None:
            self._check_classes(self.labels)

    def _check_classes(self, labels: Tensor) -> None:
        """Refuses a class of which no file is an image, since all its images would be skipped."""
        readable, reasons = set[int](), dict[int, str]()
        for index, label in enumerate(labels.tolist()):
            if label not in readable:
                reason = unreadable_because(self.path(index), self.decoder.max_pixels)
                if reason:
                    reasons.setdefault(label, f"{self.path(index)}: {reason}")
                else:
                    readable.add(label)
        broken = sorted(reasons.keys() - readable)
        if broken:
            name, count = self.class_names[broken[0]], int((labels == broken[0]).sum())
            raise DataError(
                f"class {name!r} of {self.root}: none of the {count:,} files can be read as an image "
                f"({reasons[broken[0]]}); repair or remove them, or leave them out with data.exclude"
            )

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """Returns the path of one image."""
        return os.path.join(self.root, os.fsdecode(self._paths[index]))

    def name(self, index: int) -> str:
        """Returns the path of one image relative to the folder, followed by # and the page if it is not the first."""
        name = os.fsdecode(self._paths[index])
        return f"{name}#{page}" if (page := self.page(index)) else name

    def key(self, index: int) -> str:
        """Returns the path below the image's own root, after the number of the root if there are several."""
        name = self.name(index)
        if len(self.roots) == 1:
            return name
        number = next(number for number, start in enumerate(self._starts) if name.startswith(start))
        return f"{number}:{name.removeprefix(self._starts[number])}"

    def place(self, index: int) -> Hashable:
        """Returns the real path and the page."""
        is_link = self._links is not None and bool(self._links[index])
        return self._real_path(self.path(index), is_link), self.page(index)

    def page(self, index: int) -> int:
        """Returns the page of an image in its file, from 0."""
        return 0 if self._pages is None else int(self._pages[index])

    def file_size(self, index: int) -> int:
        """Returns the size of an image's file in bytes; 0 if it is missing."""
        try:
            return os.path.getsize(self.path(index))
        except OSError:  # reported when the image is read
            return 0

    def content(self, index: int) -> bytes:
        """Returns the content of an image's file."""
        return Path(self.path(index)).read_bytes()

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1] at depth 16.

        Raises:
            DataError: The file cannot be read. This is a SkipImage if `on_error` is "skip".
        """
        path = self.path(index)
        return self.decoder.read(path, path, self.page(index))

    def subset(self, indices: Tensor) -> FolderData:
        """Returns a data set of some of the images, with the same classes."""
        part = copy.copy(self)
        part._paths = self._paths[indices.numpy()]
        part._links = None if self._links is None else self._links[indices.numpy()]
        part._pages = None if self._pages is None else self._pages[indices]
        part.labels = None if self.labels is None else self.labels[indices]
        part.skipped = []
        return part

    def hold_out(self, fraction: float) -> Tensor:
        """Draws images as `hold_out_indices` does, all pages of a file together. Returns sorted indices."""
        assert self.labels is not None
        first = torch.ones(len(self), dtype=torch.bool)
        first[1:] = torch.from_numpy(self._paths[1:] != self._paths[:-1])
        names = [self.key(index) for index in first.nonzero()[:, 0].tolist()]
        files = hold_out_indices(self.labels[first], names, fraction)
        return torch.isin(first.cumsum(0) - 1, files).nonzero()[:, 0]

    def without(self, other: FolderData) -> FolderData:
        """Returns a data set without the images of another one of the same folder."""
        theirs = {other.path(index) for index in range(len(other))}
        kept = [index for index in range(len(self)) if self.path(index) not in theirs]
        if not kept:
            raise DataError(f"{self.root}: all images are test images; set data.files to the training images")
        return self.subset(torch.tensor(kept))
