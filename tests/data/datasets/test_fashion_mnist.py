from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch
import torchvision

from ssl_lib.data import fashion_mnist, fashion_mnist_mini
from ssl_lib.data.datasets.fashion_mnist import CLASS_NAMES, DEBIAN_FOLDER, EMBEDDED, MEAN, STD, read_idx
from ssl_lib.errors import DataError
from tests.data.make_embedded import draw

RNG = np.random.default_rng(0)
needs_originals = pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs the package dataset-fashion-mnist")


def idx(array) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 40), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", RNG.integers(0, 256, (count, 28, 28))),
            ("labels-idx1", RNG.integers(0, 10, count)),
        ):
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_equal_torchvision(tmp_path, zipped, split):
    write_set(tmp_path / "FashionMNIST" / "raw")
    reference = torchvision.datasets.FashionMNIST(tmp_path, train=split == "train")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "FashionMNIST" / "raw").iterdir():
        content = path.read_bytes()
        (flat / (path.name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    for root in (tmp_path, flat):
        data = fashion_mnist(root, split=split)
        assert torch.equal(data.gather(torch.arange(len(data)))[:, 0], reference.data)
        assert torch.equal(data.labels, reference.targets)
        assert data.class_names == tuple(reference.classes)
    assert fashion_mnist(flat, split="bank") is None


def test_read_idx_supports_any_number_of_dimensions(tmp_path):
    for shape in ((7,), (2, 3), (2, 3, 4, 5)):
        array = RNG.integers(0, 256, shape, dtype=np.uint8)
        (tmp_path / "file").write_bytes(idx(array))
        np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "contains 39 values"),
        (lambda content: content + b"\0", "contains 41 values"),
        (lambda content: b"", "not an idx file"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "not an idx file"),
        (lambda content: content[:6], "contains"),
        (lambda content: idx(np.full(40, 10)), "number of classes, 10"),
        (lambda content: idx(np.zeros(39)), "40 integers"),
    ],
)
def test_damaged_idx_file_raises_an_error(tmp_path, damage, message):
    write_set(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        fashion_mnist(tmp_path)
    assert path.name in str(caught.value)


def test_damaged_gzip_or_missing_file_raises_an_error(tmp_path):
    write_set(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        fashion_mnist(tmp_path)
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        fashion_mnist(tmp_path)
    with pytest.raises(DataError, match="`download: true`"):
        fashion_mnist(tmp_path / "nowhere")


@pytest.mark.skipif(DEBIAN_FOLDER.is_dir(), reason="the package dataset-fashion-mnist is installed")
def test_missing_package_raises_an_error_with_its_name():
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist()


def test_embedded_subset_is_small_balanced_and_licensed():
    train, test = fashion_mnist_mini(), fashion_mnist_mini(split="test")
    assert torch.bincount(train.labels).tolist() == [600] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10
    assert train.gather(torch.tensor([0, 5999])).shape == (2, 1, 28, 28)
    assert train.class_names == CLASS_NAMES
    assert fashion_mnist_mini(split="bank") is None
    assert EMBEDDED.stat().st_size < 4_000_000
    assert "Copyright (c) 2017 Zalando SE" in EMBEDDED.with_name("NOTICE").read_text()


@needs_originals
def test_every_embedded_image_and_label_is_in_the_original():
    for split in ("train", "test"):
        full, subset = fashion_mnist(split=split), fashion_mnist_mini(split=split)
        images = full.gather(torch.arange(len(full))).numpy()
        originals = {(image.tobytes(), label) for image, label in zip(images, full.labels.tolist(), strict=True)}
        chosen = subset.gather(torch.arange(len(subset))).numpy()
        pairs = {(image.tobytes(), label) for image, label in zip(chosen, subset.labels.tolist(), strict=True)}
        assert pairs <= originals
        assert len(pairs) == len(subset)


@needs_originals
def test_embedded_subset_equals_the_result_of_make_embedded():
    with np.load(EMBEDDED) as file:
        for key, array in draw().items():
            np.testing.assert_array_equal(file[key], array)


@needs_originals
def test_mean_and_std_equal_the_training_images():
    data = fashion_mnist()
    assert len(data) == 60_000
    counts = np.bincount(data.gather(torch.arange(len(data))).numpy().ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    std = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    assert ((round(mean, 4),), (round(std, 4),)) == (MEAN, STD)
