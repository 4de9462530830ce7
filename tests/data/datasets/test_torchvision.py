from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, STL10

from ssl_lib.data import cifar10, cifar100, stl10
from ssl_lib.data.datasets.torchvision import CIFAR10_STATISTICS, CIFAR100_STATISTICS, _cifar, _stl10
from ssl_lib.errors import DataError

RNG = np.random.default_rng(0)


def write(path, content: bytes) -> list[str]:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return [path.name, hashlib.md5(content).hexdigest()]


def write_cifar(root, kind, key):
    """Writes a small data set in CIFAR format; returns a torchvision class with its md5 sums, and the content."""
    folder, content = root / kind.base_folder, {}

    def batch(name, count):
        pixels = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = RNG.integers(0, 3, count).tolist()
        content[name] = (pixels.reshape(-1, 3, 32, 32), labels)
        return write(folder / name, pickle.dumps({"data": pixels, key: labels}))

    train, test = [batch("one", 6), batch("two", 5)], [batch("three", 4)]
    name, md5 = write(folder / "names", pickle.dumps({kind.meta["key"]: ["ant", "bee", "cow"]}))
    meta = {"filename": name, "key": kind.meta["key"], "md5": md5}
    return type(f"Small{kind.__name__}", (kind,), {"train_list": train, "test_list": test, "meta": meta}), content


@pytest.mark.parametrize(("kind", "key"), [(CIFAR10, "labels"), (CIFAR100, "fine_labels")])
def test_cifar_images_and_labels_equal_the_files(tmp_path, kind, key):
    small, content = write_cifar(tmp_path, kind, key)
    train = _cifar(small, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), tmp_path, False, "train")
    test = _cifar(small, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), tmp_path, False, "test")
    np.testing.assert_array_equal(
        train.gather(torch.arange(11)).numpy(), np.concatenate([content["one"][0], content["two"][0]])
    )
    assert train.labels.tolist() == content["one"][1] + content["two"][1]
    np.testing.assert_array_equal(test.gather(torch.arange(4)).numpy(), content["three"][0])
    assert test.labels.tolist() == content["three"][1]
    assert train.class_names == ("ant", "bee", "cow")
    assert (train.mean, test.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert _cifar(small, train.mean, train.std, tmp_path, False, "bank") is None


def test_modified_cifar_file_is_not_unpickled(tmp_path):
    small, _ = write_cifar(tmp_path, CIFAR10, "labels")
    path = tmp_path / CIFAR10.base_folder / "two"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="corrupted"):
        _cifar(small, (0.5,) * 3, (0.5,) * 3, tmp_path, False, "train")


def test_stl10_images_and_labels_equal_the_files(tmp_path):
    folder = tmp_path / STL10.base_folder
    pixels = {
        name: RNG.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8) for name, n in {"a": 4, "b": 6, "c": 3}.items()
    }
    labels = {name: RNG.integers(1, 11, n, dtype=np.uint8) for name, n in {"a": 4, "c": 3}.items()}

    train_list = [
        write(folder / "train_X.bin", pixels["a"].tobytes()),
        write(folder / "train_y.bin", labels["a"].tobytes()),
        write(folder / "unlabeled_X.bin", pixels["b"].tobytes()),
    ]
    test_list = [
        write(folder / "test_X.bin", pixels["c"].tobytes()),
        write(folder / "test_y.bin", labels["c"].tobytes()),
    ]
    small = type("SmallSTL10", (STL10,), {"train_list": train_list, "test_list": test_list})
    write(folder / "class_names.txt", b"\n".join(b"class%d" % index for index in range(10)))
    train, bank, test = (_stl10(small, tmp_path, False, split) for split in ("train", "bank", "test"))
    upright = {name: array.transpose(0, 1, 3, 2) for name, array in pixels.items()}  # stored in column-major order
    np.testing.assert_array_equal(train.gather(torch.arange(10)).numpy(), np.concatenate([upright["a"], upright["b"]]))
    np.testing.assert_array_equal(bank.gather(torch.arange(4)).numpy(), upright["a"])
    np.testing.assert_array_equal(test.gather(torch.arange(3)).numpy(), upright["c"])
    assert train.labels is None
    assert bank.labels.tolist() == (labels["a"] - 1).tolist()
    assert test.labels.tolist() == (labels["c"] - 1).tolist()
    assert test.class_names[9] == "class9"
    assert train.mean == bank.mean == test.mean


@pytest.mark.parametrize("factory", [cifar10, cifar100, stl10])
def test_missing_files_raise_an_error_with_the_fix(tmp_path, factory):
    with pytest.raises(DataError, match="download=true") as caught:
        factory(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_cifar10_and_cifar100_have_different_statistics():
    assert CIFAR10_STATISTICS != CIFAR100_STATISTICS
