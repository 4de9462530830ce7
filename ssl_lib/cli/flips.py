"""Embeddings of the mirrored images of a table, for `ssl-lib duplicates --flips`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ssl_lib.cli.image_source import TableImages, table_images
from ssl_lib.data.base import ImageDataset
from ssl_lib.embedding import EmbeddingTable
from ssl_lib.embedding.extract import fingerprint
from ssl_lib.embedding.storage import SUFFIXES
from ssl_lib.errors import DataError
from ssl_lib.evaluation import extract_features
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.runs.files import run_folder
from ssl_lib.utils.precision import Precision, resolve_device
from ssl_lib.utils.printable import visible

__all__ = ["mirrored_embeddings"]

Floats = npt.NDArray[np.float32]


def mirrored_embeddings(options: argparse.Namespace, table: EmbeddingTable) -> Floats | None:
    """Returns the embeddings (N, D) of the mirrored images of a table; None without `--flips`.

    They are read from a table by `ssl-lib embed --mirrored`, or computed with the run that embedded the table.

    Raises:
        ConfigError: `--flips` is neither a table nor a run.
        DataError: The table or the run does not belong to the table, or the images are not found.
    """
    if options.flips is None:
        return None
    if Path(options.flips).suffix in SUFFIXES:
        return _read(options.flips, table)
    return _computed(options, table)


def _computed(options: argparse.Namespace, table: EmbeddingTable) -> Floats:
    run_folder(options.flips)  # raises if there is no run
    made_of, device = table.made_of, resolve_device(options.device)
    if made_of.get("mirrored"):
        raise DataError(f"{options.table} is a table of mirrored images: give the table of the images as they are")
    encoder = TrainedBackbone.from_run(options.flips).net
    if made_of.get("encoder") != fingerprint(encoder):
        raise DataError(
            f"--flips: {options.flips} is not the run that embedded {options.table}: give that run, or embed the "
            "images again with this one"
        )
    images = table_images(table, options.images)
    precision = Precision.resolve(made_of["precision"], device)
    settings = {"preprocessing": images.preprocessing, "batch_size": made_of["batch size"], "title": "mirrored images"}
    with precision.autocast():
        features, _ = extract_features(encoder.to(device), _Mirrored(images), **settings)
    found: Floats = features.numpy()
    return found


class _Mirrored(ImageDataset):
    """Images flipped from left to right."""

    def __init__(self, images: TableImages) -> None:
        self._images = images
        self.mean, self.std, self.channels = images.mean, images.std, images.channels
        self.labels, self.class_names = None, ()

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Tensor:
        """Returns a mirrored image."""
        return self._images.read(index).flip(-1)

    def name(self, index: int) -> str:
        """Returns the name of the image."""
        return self._images.name(index)


def _read(path: str, table: EmbeddingTable) -> Floats:
    mirrored = EmbeddingTable.load(path)
    if not np.array_equal(mirrored.paths, table.paths) or mirrored.embeddings.shape != table.embeddings.shape:
        raise DataError(
            f"{path}: it must hold the embeddings of the same images, mirrored, in the same order and of the same "
            f"width: {table.embeddings.shape} with the first path '{visible(table.paths[0])}', not "
            f"{mirrored.embeddings.shape} with '{visible(mirrored.paths[0])}'"
        )
    made_by_embed = "encoder" in table.made_of and "encoder" in mirrored.made_of
    if made_by_embed and mirrored.made_of != {**table.made_of, "mirrored": True}:
        raise DataError(
            f"{path}: it is not the table of the mirrored images: write it by the same `ssl-lib embed` command as the "
            "first table, with --mirrored, or give the run: --flips RUN"
        )
    return mirrored.embeddings
