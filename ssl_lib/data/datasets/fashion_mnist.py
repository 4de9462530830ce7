"""Fashion-MNIST: the full data set from its idx files, and a small subset that is included in the package."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torchvision

from ssl_lib.data.base import ImageData, Split
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS
from ssl_lib.utils.files import locked

__all__ = ["fashion_mnist", "fashion_mnist_mini", "read_idx"]

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MEAN, STD = (0.2860,), (0.3530,)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # installed by the package dataset-fashion-mnist
EMBEDDED = Path(__file__).parents[1] / "embedded" / "fashion_mnist_mini.npz"
_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}


@DATASETS.register("fashion_mnist")
def fashion_mnist(root: str | Path | None = None, download: bool = False, split: Split = "train") -> ImageData | None:
    """Fashion-MNIST (Xiao et al., 2017): 60,000 training and 10,000 test images, gray, 28 x 28, 10 classes.

    Args:
        root: A folder with the four idx files, gzipped or not, or a root folder of torchvision's FashionMNIST. None is
            the folder of the Debian package dataset-fashion-mnist.
        download: Whether torchvision may download missing files into `root`.
        split: See `Split`; there is no "bank", because all training images have labels.

    Raises:
        DataError: Files are missing or damaged, do not belong together, or the download failed.
    """
    if split == "bank":
        return None
    if root is None and not DEBIAN_FOLDER.is_dir():
        raise DataError(
            f"fashion_mnist: {DEBIAN_FOLDER} does not exist; run `apt-get install dataset-fashion-mnist`, or set "
            "`root` (and `download: true` to download the files into it)"
        )
    folder = DEBIAN_FOLDER if root is None else Path(root).expanduser()
    names = [f"{_PREFIX[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    if root is not None and download and None in [_find(folder, name) for name in names]:
        try:
            with locked(folder / ".download.lock", optional=True):
                torchvision.datasets.FashionMNIST(folder, download=True)
        except (OSError, RuntimeError, URLError) as error:
            raise DataError(f"fashion_mnist: the download into {folder} failed: {error}") from error
    images, labels = (read_idx(_existing(folder, name)) for name in names)
    try:
        return ArrayData(images, labels, CLASS_NAMES, MEAN, STD)
    except ValueError as error:
        raise DataError(f"{folder}, files {' and '.join(names)}: {error}") from error


@DATASETS.register("fashion_mnist_mini")
def fashion_mnist_mini(split: Split = "train") -> ImageData | None:
    """The subset of Fashion-MNIST in this package: 6,000 training and 1,000 test images with balanced classes.

    Args:
        split: See `Split`; there is no "bank", because all training images have labels.
    """
    if split == "bank":
        return None
    prefix = "" if split == "train" else "test_"
    with np.load(EMBEDDED, allow_pickle=False) as file:
        return ArrayData(file[prefix + "images"], file[prefix + "labels"], CLASS_NAMES, MEAN, STD)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an idx file of unsigned bytes, gzipped if its name ends in .gz.

    The format (LeCun et al., the MNIST database) is two zero bytes, the type (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian uint32, then the values in C order.

    Raises:
        DataError: The file is missing, damaged, or of another type.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); download it again") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an idx file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: contains {len(content) - start} values, but its header says {shape}; download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, name: str) -> Path | None:
    places = [place / file for place in (folder, folder / "FashionMNIST" / "raw") for file in (name, f"{name}.gz")]
    return next((place for place in places if place.is_file()), None)


def _existing(folder: Path, name: str) -> Path:
    if path := _find(folder, name):
        return path
    raise DataError(
        f"fashion_mnist: no {name} or {name}.gz in {folder} or {folder / 'FashionMNIST' / 'raw'}; set `root` to the "
        "folder with the four idx files, or set `download: true`"
    )
