"""Folders that `ssl-lib pack` wrote: their arrays, and how the files in them were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ssl_lib.data.io.decode import Decoder
from ssl_lib.errors import DataError

__all__ = ["PACK_FILE", "PackedFolder", "Source", "packed_folder", "source_of"]

PACK_FILE, _IMAGES = "pack.json", "images.npy"


class Source(NamedTuple):
    """How the files in a packed array were read.

    Attributes:
        decoder: Their decoder; None if it is not known.
        channels: Number of channels; None if it is not known.
    """

    decoder: Decoder | None = None
    channels: int | None = None


class PackedFolder(NamedTuple):
    """The files of a packed folder with the splits train and, if it exists, test."""

    images: Path
    labels: Path | None
    test_images: Path | None
    test_labels: Path | None
    class_names: tuple[str, ...]


def packed_folder(folder: Path) -> PackedFolder:
    """Finds the files in a folder written by `pack_folder`, or in the folder of one split.

    Raises:
        DataError: There are no images, or they are not completely packed.
    """
    train, test = (folder / "train" if (folder / "train").is_dir() else folder), folder / "test"
    for part in (train, test):
        if (part / f"{_IMAGES}.partial").exists():
            raise DataError(f"{part} is not completely packed: run the same `ssl-lib pack` command again to resume")
    files = [part / name for part in (train, test) for name in (_IMAGES, "labels.npy")]
    images, labels, test_images, test_labels = (file if file.exists() else None for file in files)
    if images is None:
        raise DataError(
            f"{folder} contains no {_IMAGES}: set path to a .npy or .npz file or a folder written by `ssl-lib pack`"
        )
    names = train / "classes.json"
    classes = tuple(json.loads(names.read_text(encoding="utf-8"))) if names.exists() else ()
    return PackedFolder(images, labels, test_images, test_labels, classes)


def source_of(images: str | Path) -> Source:
    """Reads how the files in a packed array were read, from the file next to it; unknown for other arrays.

    Raises:
        DataError: The file is damaged.
    """
    path = Path(images).expanduser()
    state = path.with_name(PACK_FILE)
    if path.name != _IMAGES or not state.is_file():
        return Source()
    try:
        source = json.loads(state.read_bytes())["source"]
        channels = int(source["channels"])
        reading = {name: source[name] for name in ("range", "depth", "bands") if name in source}
        if channels not in (1, 3) and "bands" not in reading:
            return Source(None, channels)
        return Source(Decoder(channels=channels, **reading), channels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{state} is damaged ({error}), so it is not known how the images in {path.name} were read: pack them again"
        ) from error
