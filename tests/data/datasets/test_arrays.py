from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lib.data import ArrayData, ImageData, arrays
from ssl_lib.data.datasets.arrays import pixel_statistics
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (30, 5, 7), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 30)
INDICES = torch.tensor([3, 29, 3, 0])


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def memory_mapped(tmp_path, array):
    np.save(tmp_path / "images.npy", array)
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GRAY, GRAY[:, None]),
        (COLOR, COLOR.transpose(0, 3, 1, 2)),
        (np.asfortranarray(COLOR), COLOR.transpose(0, 3, 1, 2)),
    ],
)
def test_gather_equals_numpy_indexing(tmp_path, images, expected, mapped):
    data = ArrayData(memory_mapped(tmp_path, images) if mapped else images)
    batch = data.gather(INDICES)
    assert data.memory_mapped == mapped
    assert isinstance(data, ImageData)
    orders = (torch.contiguous_format, torch.channels_last)
    assert any(batch.is_contiguous(memory_format=order) for order in orders) and batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch.numpy(), expected[INDICES.numpy()])
    np.testing.assert_array_equal(data.read(29).numpy(), expected[29])
    assert (len(data), data.channels, data.height, data.width) == expected.shape


def test_gather_returns_a_copy():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    data = ArrayData(images)
    data.gather(torch.arange(4)).fill_(9)
    assert not images.any()


@pytest.mark.parametrize("count", [30, 2001, 4500])
def test_statistics_equal_numpy_on_evenly_spaced_images(count):
    images = (RNG.random((count, 4, 4, 3)) ** 2 * 255).astype(np.uint8)
    sample = images[np.linspace(0, count - 1, min(count, 2000)).astype(int)].astype(np.float64) / 255
    mean, std = pixel_statistics(ArrayData(images))
    np.testing.assert_allclose(mean, sample.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, sample.std((0, 1, 2)), rtol=1e-12)


def test_given_statistics_are_used_and_a_constant_channel_has_std_one():
    assert ArrayData(GRAY, mean=(0.1,), std=(0.2,)).mean == (0.1,)
    mean, std = pixel_statistics(ArrayData(np.full((3, 2, 2), 51, np.uint8)))
    assert mean == pytest.approx((0.2,)) and std == (1.0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": GRAY.astype(np.float32)}, r"float images must be in \[0, 1\], got 0 to 255"),
        ({"images": GRAY.astype(np.int64)}, "uint8"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.uint8)}, r"\(N, C, H, W\)"),
        ({"images": COLOR.transpose(0, 3, 1, 2)}, r"write images\.transpose\(0, 2, 3, 1\)"),
        ({"images": COLOR, "channels": 5}, "3 channels, not channels=5"),
        ({"images": COLOR[0]}, r"write images\[None\]"),
        ({"images": GRAY[:0]}, "not be empty"),
        ({"images": GRAY, "labels": LABELS[:-1]}, "30 integers"),
        ({"images": GRAY, "labels": LABELS + 0.5}, "one integer or text per image, got fractions"),
        ({"images": GRAY, "labels": LABELS - 1}, "-1"),
        ({"images": GRAY, "labels": LABELS, "class_names": ("a", "b", "c")}, "number of classes, 3"),
        ({"images": COLOR, "mean": (0.5,), "std": (0.5,)}, "3 channel"),
        ({"images": GRAY, "mean": (0.5,), "std": (0.0,)}, "std above 0"),
    ],
)
def test_invalid_argument_raises_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArrayData(**arguments)


def test_npy_files_are_memory_mapped(tmp_path):
    np.save(tmp_path / "images.npy", COLOR)
    np.save(tmp_path / "labels.npy", LABELS.astype(np.int16))
    data = DATASETS["arrays"](tmp_path / "images.npy", labels=tmp_path / "labels.npy")
    assert data.memory_mapped
    np.testing.assert_array_equal(data.gather(INDICES).numpy(), COLOR.transpose(0, 3, 1, 2)[INDICES])
    assert data.labels.dtype == torch.int64
    np.testing.assert_array_equal(data.labels.numpy(), LABELS)
    assert arrays(tmp_path / "images.npy").labels is None
    assert arrays(tmp_path / "images.npy", split="test") is None
    assert arrays(tmp_path / "images.npy", split="bank") is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("images", [COLOR, np.asfortranarray(COLOR)])
def test_npz_equals_np_load(tmp_path, save, images):
    path = tmp_path / "set.npz"
    save(path, labels=LABELS, images=images, test_images=GRAY[..., None].repeat(3, -1)[:9], test_labels=LABELS[:9])
    train, test = arrays(path), arrays(path, split="test")
    assert train.memory_mapped == test.memory_mapped == (save is np.savez)
    with np.load(path) as loaded:
        for data, prefix in ((train, ""), (test, "test_")):
            pixels = data.gather(torch.arange(len(data))).permute(0, 2, 3, 1)
            np.testing.assert_array_equal(pixels.numpy(), loaded[prefix + "images"])
            np.testing.assert_array_equal(data.labels.numpy(), loaded[prefix + "labels"])
    assert (test.mean, test.std) == (train.mean, train.std)


def test_test_images_and_labels_can_be_in_separate_files(tmp_path):
    np.savez(tmp_path / "train.npz", images=GRAY)
    np.savez(tmp_path / "test.npz", images=GRAY[:4], labels=LABELS[:4])
    np.save(tmp_path / "test.npy", GRAY[:4])
    np.save(tmp_path / "other.npy", LABELS[4:8])
    combined = arrays(tmp_path / "train.npz", test_path=tmp_path / "test.npz", split="test")
    separate = arrays(
        tmp_path / "train.npz", test_path=tmp_path / "test.npy", test_labels=tmp_path / "other.npy", split="test"
    )
    for data, expected in ((combined, LABELS[:4]), (separate, LABELS[4:8])):
        names = np.array(data.class_names or range(4)).astype(int)  # dense labels, named by the numbers
        np.testing.assert_array_equal(names[data.labels.numpy()], expected)
    with pytest.raises(DataError, match="have no labels"):
        arrays(tmp_path / "train.npz", test_path=tmp_path / "test.npy", split="test")


@pytest.mark.parametrize("kind", ["npy", "pickle", "npz", "compressed npz"])
def test_pickles_raise_an_error_and_are_never_executed(tmp_path, kind):
    trace = tmp_path / "payload_ran"
    images = np.array([Payload(trace)], dtype=object)
    path = tmp_path / ("set.npz" if kind.endswith("npz") else "set.npy")
    if kind == "npy":
        np.save(path, images)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(images))
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=images)
    with pytest.raises(DataError, match=r"set\.np[yz]: not a plain array"):
        arrays(path)
    assert not trace.exists()


def test_errors_name_the_file(tmp_path):
    np.savez(tmp_path / "keys.npz", pictures=GRAY)
    np.savez(tmp_path / "float.npz", images=GRAY / 255)
    np.savez(tmp_path / "labels.npz", images=GRAY, labels=LABELS[:-1])
    np.save(tmp_path / "cut.npy", GRAY)
    np.savez(tmp_path / "cut.npz", images=GRAY)
    for name in ("cut.npy", "cut.npz"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-300])
    (tmp_path / "images.txt").write_text("no")
    np.save(tmp_path / "images.npy", GRAY)
    np.save(tmp_path / "column.npy", LABELS[:, None])
    with pytest.raises(DataError, match=r"one class per image, got shape \(30, 1\)"):
        arrays(tmp_path / "images.npy", labels=tmp_path / "column.npy")
    with pytest.raises(DataError, match=r"keys\.npz: contains no array named 'labels'"):
        arrays(tmp_path / "images.npy", labels=tmp_path / "keys.npz")
    for name, message in {
        "keys.npz": "no array named 'images'",
        "float.npz": "uint8",
        "labels.npz": "30 integers",
        "cut.npy": "read safely",
        "cut.npz": "read safely",
        "images.txt": "not a .npy or .npz",
        "absent.npy": "no such file",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            arrays(tmp_path / name)
        assert name in str(caught.value)


def test_array_data_is_a_torch_dataset():
    pixels = torch.arange(4 * 2 * 2, dtype=torch.uint8).view(4, 1, 2, 2)
    labeled = ArrayData(pixels, np.array([2, 0, 1, 1]))
    image, label = labeled[-4]
    assert torch.equal(image, pixels[0]) and label == 2
    assert torch.equal(ArrayData(pixels)[3], pixels[3])
    assert len(list(labeled)) == 4  # iteration ends
    images, labels = next(iter(torch.utils.data.DataLoader(labeled, batch_size=4)))
    assert torch.equal(images, pixels) and labels.tolist() == [2, 0, 1, 1]
    assert repr(labeled) == "ArrayData(4 images of 1 channel, 3 classes)"
    assert repr(ArrayData(pixels)) == "ArrayData(4 images of 1 channel, no labels)"


@pytest.mark.parametrize(("mean", "std"), [((127.0,), (64.0,)), ((0.5,), (0.0,)), ((-0.1,), (0.5,))])
def test_statistics_out_of_range_raise_an_error(mean, std):
    with pytest.raises(ValueError, match="divide the statistics of uint8 pixels by 255"):
        ArrayData(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), mean=mean, std=std)
