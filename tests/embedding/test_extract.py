"""Tests of `embed`: features, skipped images, precision, checks and memory."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from torch import nn

from ssl_lib.data import FolderData
from ssl_lib.embedding import Embedded, EmbeddingTable, embed
from ssl_lib.errors import DataError
from ssl_lib.evaluation import extract_features
from tests.conftest import TinyBackbone
from tests.embedding.conftest import OPTIONS, corrupt


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_equal_features_in_the_order_of_paths(encoder, photos, tmp_path, workers):
    data = FolderData(photos)
    made = embed(encoder.train(), data, tmp_path / "e.npz", size=8, batch_size=16, workers=workers)
    assert made == Embedded(tmp_path / "e.npz", 90, 90, ()) and encoder.training
    table = EmbeddingTable.load(tmp_path / "e.npz")
    features, labels = extract_features(encoder, data, size=8, batch_size=16, workers=0)
    np.testing.assert_array_equal(table.embeddings, features.numpy())
    assert table.paths.tolist() == [os.path.relpath(data.path(index), photos) for index in range(90)]
    assert table.labels.tolist() == labels.tolist() and table.classes == data.class_names
    assert table.root == os.path.realpath(photos)
    assert sorted(os.listdir(tmp_path)) == ["e.npz", "photos"]


def test_a_missing_stderr_is_no_error(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert embed(TinyBackbone(1), images, tmp_path / "e.npz", batch_size=40).count == 96


def test_paths_of_array_data_are_indices(images, tmp_path):
    encoder = TinyBackbone(1)
    embed(encoder, images, tmp_path / "e.npz", batch_size=40)
    table = EmbeddingTable.load(tmp_path / "e.npz")
    np.testing.assert_array_equal(table.embeddings, extract_features(encoder, images, batch_size=40)[0].numpy())
    assert table.paths.tolist() == [str(index) for index in range(96)] and table.root is None


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_raise_or_are_skipped(encoder, photos, tmp_path, workers):
    data = FolderData(photos)
    bad = [0, 20, *range(32, 48), *range(80, 90)]  # includes a whole batch and the last batch
    corrupt(data, *bad)
    settings = {**OPTIONS, "workers": workers}
    with pytest.raises(DataError, match="--skip-unreadable") as caught:
        embed(encoder, data, tmp_path / "e.npz", **settings)
    assert data.path(0) in str(caught.value) and not (tmp_path / "e.npz.unfinished").exists()
    made = embed(encoder, FolderData(photos, on_error="skip"), tmp_path / "e.npz", **settings)
    assert (made.count, made.skipped) == (90 - 28, tuple(data.name(index) for index in bad))
    table = EmbeddingTable.load(tmp_path / "e.npz")
    kept = [index for index in range(90) if index not in bad]
    assert table.paths.tolist() == [data.name(index) for index in kept]
    assert table.labels.tolist() == data.labels[kept].tolist()
    features, _ = extract_features(encoder, FolderData(photos, on_error="skip"), size=8, batch_size=16, workers=0)
    np.testing.assert_array_equal(table.embeddings, features.numpy())
    again = embed(encoder, FolderData(photos, on_error="skip"), tmp_path / "e.npz", **settings)
    assert again.skipped == made.skipped


def test_no_readable_image_raises(encoder, photos, tmp_path):
    data = FolderData(photos, on_error="skip")
    corrupt(data, *range(90))
    with pytest.raises(DataError, match=r"none of the 90 images can be read; the first is class0/00\.png"):
        embed(encoder, data, tmp_path / "e.npz", **OPTIONS)


def test_low_precision_is_close_and_saved_as_float32(encoder, photos, tmp_path):
    for precision in ("fp32", "bf16"):
        embed(encoder, FolderData(photos), tmp_path / f"{precision}.npz", precision=precision, **OPTIONS)
    full, low = (EmbeddingTable.load(tmp_path / f"{name}.npz").embeddings for name in ("fp32", "bf16"))
    assert low.dtype == np.float32 and not np.array_equal(full, low)
    np.testing.assert_allclose(low, full, rtol=0.05, atol=0.01)


def test_non_finite_features_raise_with_image_name(photos, tmp_path):
    class DividesByZero(nn.Flatten):
        out_dim = 192

        def forward(self, images):
            values = super().forward(images)
            return values / (values.sum(1, keepdim=True) > 0)

    data = FolderData(photos, mean=(0.0,) * 3, std=(1.0,) * 3)
    Image.new("RGB", (9, 9)).save(data.path(37))
    with pytest.raises(DataError, match=f"{data.name(37)}: the encoder returns NaN"):
        embed(DividesByZero(), data, tmp_path / "e.npz", **OPTIONS)


def test_invalid_arguments_raise_before_anything_is_written(encoder, photos, tmp_path):
    data = FolderData(photos)
    wrong = TinyBackbone(3)
    wrong.out_dim = 7
    for part, changes, message in [
        (nn.Flatten(), {}, "Flatten has no out_dim"),
        (wrong, {}, r"out_dim is 7, but its features are \(16, 16\)"),
        (encoder, {"batch_size": 0}, "batch_size must be at least 1"),
        (encoder, {"workers": -1}, "workers at least 0"),
        (encoder, {"size": None}, "set size in pixels"),
        (encoder, {"precision": "int8"}, "unknown precision"),
    ]:
        with pytest.raises(ValueError, match=message):
            embed(part, data, tmp_path / "e.npz", **{**OPTIONS, **changes})
    assert os.listdir(tmp_path) == ["photos"]


MANY = """
import re, resource, sys
import numpy as np
from torch import nn
from ssl_lib.data import ArrayData
from ssl_lib.embedding import EmbeddingTable, embed
from ssl_lib.evaluation import extract_features

class Repeats(nn.Module):
    out_dim = 4096

    def forward(self, images):
        return images.flatten(1).repeat(1, 1024)

pixels = np.load(sys.argv[1], mmap_mode="r")
few, many = (ArrayData(part, mean=(0.5,), std=(0.5,)) for part in (pixels[:600], pixels))
embed(Repeats(), few, sys.argv[2] + "few.npz")  # warm-up: imports and one-time allocations
private = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
limit = private + 100 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
embed(Repeats(), many, sys.argv[2] + "many.npz")
print(len(EmbeddingTable.load(sys.argv[2] + "many.npz")))
try:
    extract_features(Repeats(), many)
except (RuntimeError, MemoryError):
    print("too large for memory")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc/self/status")
def test_features_may_be_larger_than_memory(tmp_path):
    """320 MB of features with a kernel limit of 100 MB of private memory."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (20_000, 2, 2), dtype=np.uint8))
    command = [sys.executable, "-c", MANY, str(tmp_path / "images.npy"), f"{tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and done.stdout.split("\n") == ["20000", "too large for memory", ""], done.stderr
