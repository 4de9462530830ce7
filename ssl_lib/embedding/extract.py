"""Every image of a data set through an encoder, to a file that may be larger than the memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ssl_lib.data import FolderData, ImageData, evaluation_batches, image_name
from ssl_lib.data.resumable import RowFile, Words, describe_source, held
from ssl_lib.data.worker_errors import worker_crashes
from ssl_lib.embedding.storage import storage_of
from ssl_lib.embedding.table import EmbeddingTable
from ssl_lib.errors import DataError
from ssl_lib.evaluation.features import device_of, encode, frozen
from ssl_lib.utils.precision import Precision

__all__ = ["Embedded", "embed"]

_WORDS = Words("an unfinished embedding", "embed", "another file")


@dataclass(frozen=True)
class Embedded:
    """What `embed` made, or found complete.

    Attributes:
        path: The table; read it with `EmbeddingTable.load`.
        count: Number of images in it.
        written: How many of them this call added; 0 if the file was complete already.
        skipped: Images that could not be read and were left out, named as in the table.
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
) -> Embedded:
    """Passes every image through the encoder, in eval mode and without augmentation, and writes an `EmbeddingTable`.

    May be interrupted at any time: features are in the folder `<destination>.unfinished` until all are there, and a
    second call goes on where the first stopped. Its table equals that of an unbroken call, bit for bit.

    Args:
        encoder: (N, C, H, W) -> (N, out_dim); features are computed where its parameters are.
        data: Images are normalized by its `mean` and `std`. Those to be skipped (see `SkipImage`) are left out.
        destination: A .npz, or a .parquet with the extra `parquet`.
        root: The folder that the images' names are relative to, kept for pictures; of a `FolderData` its own.
        size: Side of the images shown; see `evaluation_batches`.
        resize: Pixels that the shorter side is resized to first; see `evaluation_batches`.
        batch_size: Images per forward pass.
        workers: Processes that decode, for data not in memory.
        precision: `fp32`, `bf16`, `fp16` or `auto`; what is written is float32.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        DataError: An image cannot be read, its features are not finite, the destination is there already with other
            images, encoder or settings, or it cannot be written.
        ValueError: The encoder has no `out_dim` or is not as wide, or an argument is out of range.
        ConfigError: Another suffix or precision, or pyarrow is missing.
    """
    path = Path(destination).expanduser()
    storage_of(path)
    width = getattr(encoder, "out_dim", None)
    if not isinstance(width, int):
        raise ValueError(f"{type(encoder).__name__} has no out_dim: set it to the width of its features")
    if batch_size < 1 or (workers is not None and workers < 0):
        raise ValueError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
    computed = Precision.resolve(precision, device_of(encoder))
    batches = _Batches(data, batch_size, size, resize, workers)
    if root is None and isinstance(data, FolderData):
        root = os.path.realpath(data.root)
    source = {**describe_source(data), "root": root, "encoder": _fingerprint(encoder)}
    shown = {"size": size, "resize": resize, "batch size": batch_size, "precision": computed.name}
    made_of = {**source, **shown, "mean": list(data.mean), "std": list(data.std)}
    if path.exists():
        return _complete(path, made_of)
    work = path.with_name(path.name + ".unfinished")
    rows: RowFile | None = None
    try:
        work.mkdir(parents=True, exist_ok=True)
        with held(work, "embed"), worker_crashes():
            rows = RowFile(work / "features.npy", "embed.json", made_of, len(data), (width,), np.float32, _WORDS)
            before = rows.count
            with frozen(encoder), computed.autocast():
                _fill(rows, encoder, batches, progress)
            _table(rows, data, root, made_of).save(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another file. A second call goes on "
            "where this one stopped"
        ) from error
    finally:
        if rows is not None and (path.exists() or not rows.done):
            shutil.rmtree(work, ignore_errors=True)
    return Embedded(path, rows.count, rows.count - before, tuple(rows.skipped.values()))


@dataclass(frozen=True)
class _Batches:
    """How the images are read."""

    data: ImageData
    batch_size: int
    size: int | None
    resize: int | None
    workers: int | None

    def end_of(self, index: int) -> int:
        """The end of the batch that an image is in."""
        return min(len(self.data), (index // self.batch_size + 1) * self.batch_size)


def _fill(rows: RowFile, encoder: nn.Module, batches: _Batches, progress: bool) -> None:
    """Appends the features that are not there yet. Batches begin where those of an unbroken call do."""
    if rows.target.exists():
        return
    data = batches.data
    rest = torch.arange(rows.done, len(data))
    read = evaluation_batches(data, batches.batch_size, batches.size, batches.workers, rest, batches.resize)
    bar = tqdm(total=len(data), initial=rows.done, unit="image", disable=None if progress else True)
    with rows.opened() as file, bar:
        for batch in read:
            assert isinstance(batch.images, Tensor)
            features = encode(encoder, batch.images, data.mean, data.std)
            _check(features, rows.width, data, batch.indices)
            end = batches.end_of(int(batch.indices[-1]))
            bar.update(end - rows.done)
            rows.append(file, end, features.numpy(), _left_out(data, range(rows.done, end), batch.indices.tolist()))
        nothing = np.empty((0, rows.width), np.float32)  # of the last batches, where no image of theirs can be read
        rows.append(file, len(data), nothing, _left_out(data, range(rows.done, len(data)), ()))
    if not rows.count:
        raise DataError(f"none of the {len(data)} images can be read; the first is {image_name(data, 0)}")
    rows.finish()


def _left_out(data: ImageData, wanted: range, read: Iterable[int]) -> dict[int, str]:
    return {index: image_name(data, index) for index in sorted(set(wanted).difference(read))}


def _check(features: Tensor, width: int, data: ImageData, indices: Tensor) -> None:
    if features.shape[1:] != (width,):
        raise ValueError(f"the encoder's out_dim is {width}, and its features are {tuple(features.shape)}")
    bad = ~features.isfinite().all(1)
    if bad.any():
        name = image_name(data, int(indices[bad][0]))
        raise DataError(f"{name}: the encoder makes NaN or infinity of it; try another precision, or look at the run")


def _table(rows: RowFile, data: ImageData, root: str | None, made_of: dict[str, Any]) -> EmbeddingTable:
    kept = np.ones(len(data), np.bool_)
    kept[list(rows.skipped)] = False
    paths = np.array([image_name(data, index) for index in np.flatnonzero(kept).tolist()], np.str_)
    labels = None if data.labels is None else data.labels.numpy()[kept]
    embeddings = np.load(rows.target, mmap_mode="r", allow_pickle=False)
    skipped = tuple(rows.skipped.values())
    return EmbeddingTable(embeddings, paths, labels, tuple(data.class_names), root, skipped, made_of)


def _complete(path: Path, made_of: dict[str, Any]) -> Embedded:
    """What is there already, if this very call would make it again."""
    table = EmbeddingTable.load(path)
    found = table.made_of
    if found != made_of:
        key = next((key for key in made_of if found.get(key) != made_of[key]), "settings")
        raise DataError(
            f"{path} is there already, of another source ({key}: {found.get(key)} there, {made_of.get(key)} here); "
            "choose another file, or remove it"
        )
    return Embedded(path, len(table), 0, table.skipped)


def _fingerprint(encoder: nn.Module) -> str:
    """Of its structure and weights."""
    found = hashlib.sha256(repr(encoder).encode())
    for key, value in encoder.state_dict().items():
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
