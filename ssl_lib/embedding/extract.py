"""Extracts embeddings of all images of a data set into a table on disk, resumable and larger than memory."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_lib.data import Batch, FolderData, ImageData, evaluation_batches, image_name
from ssl_lib.data.preprocessing import Preprocessing, chosen_preprocessing
from ssl_lib.data.resumable import RowFile, describe_source, held
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.embedding.storage import storage_of
from ssl_lib.embedding.table import EmbeddingTable
from ssl_lib.errors import DataError
from ssl_lib.evaluation.features import check_features, device_of, encode, frozen
from ssl_lib.utils.precision import Precision
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["Embedded", "embed", "fingerprint"]


@dataclass(frozen=True)
class Embedded:
    """Result of `embed`.

    Attributes:
        path: The table; load it with `EmbeddingTable.load`.
        count: Number of images in the table.
        written: Number of images that this call added; 0 if the table was already complete.
        skipped: Names of the unreadable images that were skipped, as in the table.
    """

    path: Path
    count: int
    written: int
    skipped: tuple[str, ...]


def embed(
    encoder: nn.Module,
    data: ImageData,
    destination: str | Path,
    *,
    root: str | None = None,
    size: int | None = None,
    resize: int | None = None,
    batch_size: int = 512,
    workers: int | None = None,
    precision: str = "fp32",
    progress: bool = True,
    preprocessing: Preprocessing | None = None,
    mirrored: bool = False,
) -> Embedded:
    """Encodes every image in eval mode and without augmentation, and writes an `EmbeddingTable`.

    The call can be interrupted at any time. Features are kept in the folder `<destination>.unfinished` until all images
    are done, and a second call resumes there. The resulting table is bitwise equal to that of an uninterrupted call.

    Args:
        encoder: (N, C, H, W) -> (N, out_dim). It runs on the device of its parameters.
        data: The images. Images that raise `SkipImage` are skipped.
        destination: A .npz file, or a .parquet file (needs the extra `parquet`).
        root: Folder that the image names are relative to, stored to find the images again; defaults to the root of a
            `FolderData`.
        size: Side of the images fed to the encoder in pixels; see `Preprocessing.of`.
        resize: Length in pixels that the shorter side is resized to before cropping; see `Preprocessing.of`.
        batch_size: Images per forward pass.
        workers: Number of worker processes that decode images, for data not in memory.
        precision: `fp32`, `bf16`, `fp16` or `auto`. The table always holds float32.
        progress: Whether to show a progress bar on a terminal.
        preprocessing: Resizes and normalizes the images; None is `Preprocessing.of(data, size, resize)`.
        mirrored: Whether to flip the images from left to right, for `duplicate_groups(..., mirrored=...)`.

    Raises:
        DataError: An image cannot be read, its features are not finite, the destination exists with different images,
            encoder or settings, or it cannot be written.
        ValueError: `encoder.out_dim` is missing or differs from the width of its features, or an argument is out of
            range.
        ConfigError: The suffix or precision is not supported, or pyarrow is not installed.
    """
    path = Path(destination).expanduser()
    storage_of(path)  # raises for an unsupported suffix
    width = getattr(encoder, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(f"{type(encoder).__name__} has no out_dim: set it to the width of its features")
    if batch_size < 1 or (workers is not None and workers < 0):
        raise ValueError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
    computed = Precision.resolve(precision, device_of(encoder))
    inputs = chosen_preprocessing(preprocessing, data, size, resize)
    read = _reader(data, batch_size, workers, inputs, mirrored)
    if root is None and isinstance(data, FolderData):
        root = os.path.realpath(data.root)
    made_of = {**describe_source(data), "root": root, "encoder": fingerprint(encoder)}
    made_of |= {"batch size": batch_size, "precision": computed.name, **inputs.plain()}
    made_of |= {"mirrored": True} if mirrored else {}
    if path.exists():
        return _existing(path, made_of)
    with _unfinished_rows(path, len(data), width, made_of) as rows:
        before = rows.count
        with frozen(encoder), computed.autocast():
            _fill(rows, encoder, inputs, data, batch_size, read, progress)
        _build_table(rows, data, root, made_of).save(path)
    return Embedded(path, rows.count, rows.count - before, tuple(rows.skipped.values()))


def _reader(
    data: ImageData, batch_size: int, workers: int | None, preprocessing: Preprocessing, mirrored: bool
) -> Callable[[Tensor], Iterable[Batch]]:
    """Returns a function that reads the batches of the images at given positions."""

    def read(indices: Tensor) -> Iterator[Batch]:
        options: dict[str, Any] = {"workers": workers, "preprocessing": preprocessing, "indices": indices}
        for batch in evaluation_batches(data, batch_size, **options):
            assert isinstance(batch.images, Tensor)
            yield dataclasses.replace(batch, images=batch.images.flip(-1)) if mirrored else batch

    return read


@contextlib.contextmanager
def _unfinished_rows(path: Path, total: int, width: int, made_of: dict[str, Any]) -> Iterator[RowFile]:
    """Opens the folder `<path>.unfinished`; deletes it at the end if the table is written or no image is done."""
    work = path.with_name(path.name + ".unfinished")
    rows: RowFile | None = None
    try:
        work.mkdir(parents=True, exist_ok=True)
        with held(work, "embed"), worker_crashes():
            rows = RowFile(work / "features.npy", "embed.json", made_of, total, (width,), np.float32, "embed")
            yield rows
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); free disk space and call again to resume, or choose "
            "another file"
        ) from error
    finally:
        if rows is not None and (path.exists() or not rows.done):
            shutil.rmtree(work, ignore_errors=True)


def _fill(
    rows: RowFile,
    encoder: nn.Module,
    preprocessing: Preprocessing,
    data: ImageData,
    batch_size: int,
    read: Callable[[Tensor], Iterable[Batch]],
    progress: bool,
) -> None:
    """Appends the missing features. Batch boundaries are the same as in an uninterrupted call."""
    if rows.target.exists():
        return
    bar = progress_bar(total=len(data), initial=rows.done, unit="image", leave=True, show=progress)
    with rows.opened() as file, bar:
        for batch in read(torch.arange(rows.done, len(data))):
            assert isinstance(batch.images, Tensor)
            features = encode(encoder, batch.images, preprocessing)
            if features.shape[1:] != (rows.width,):
                raise ValueError(f"the encoder's out_dim is {rows.width}, but its features are {tuple(features.shape)}")
            check_features(features, data, batch.indices)
            end = min(len(data), (int(batch.indices[-1]) // batch_size + 1) * batch_size)
            bar.update(end - rows.done)
            rows.append(file, end, features.numpy(), _skipped(data, range(rows.done, end), batch.indices.tolist()))
        empty = np.empty((0, rows.width), np.float32)  # the last batches may not contain a readable image
        rows.append(file, len(data), empty, _skipped(data, range(rows.done, len(data)), ()))
    if not rows.count:
        raise DataError(f"none of the {len(data)} images can be read; the first is {image_name(data, 0)}")
    rows.finish()


def _skipped(data: ImageData, wanted: range, read: Iterable[int]) -> dict[int, str]:
    """Indices and names of the images that were not read."""
    return {index: image_name(data, index) for index in sorted(set(wanted).difference(read))}


def _build_table(rows: RowFile, data: ImageData, root: str | None, made_of: dict[str, Any]) -> EmbeddingTable:
    kept = np.ones(len(data), np.bool_)
    kept[list(rows.skipped)] = False
    paths = np.array([image_name(data, index) for index in np.flatnonzero(kept).tolist()], np.str_)
    labels = None if data.labels is None else data.labels.numpy()[kept]
    embeddings = np.load(rows.target, mmap_mode="r", allow_pickle=False)
    skipped = tuple(rows.skipped.values())
    return EmbeddingTable(embeddings, paths, labels, tuple(data.class_names), root, skipped, made_of)


def _existing(path: Path, made_of: dict[str, Any]) -> Embedded:
    """Returns the existing table if the call would produce the same one; otherwise raises DataError."""
    table = EmbeddingTable.load(path)
    found = table.made_of
    if found != made_of:
        key = next((key for key in made_of if found.get(key) != made_of[key]), "settings")
        raise DataError(
            f"{path} already exists, from another source ({key}: {found.get(key)} there, {made_of.get(key)} here); "
            "choose another file, or remove it"
        )
    return Embedded(path, len(table), 0, table.skipped)


def fingerprint(encoder: nn.Module) -> str:
    """Hash of the structure and the weights of an encoder."""
    digest = hashlib.sha256(repr(encoder).encode())
    for key, value in encoder.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
