from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_lib.data import FolderData, rows
from ssl_lib.embedding import Embedded, EmbeddingTable, embed
from ssl_lib.errors import DataError
from ssl_lib.evaluation import extract_features
from tests.conftest import TinyBackbone

RNG = np.random.default_rng(0)
PLAIN = {"size": 8, "batch_size": 16, "workers": 0}


class Stops(FolderData):
    """Ends with an error of its own at one image, as Ctrl-C would."""

    at = -1

    def read(self, index):
        if index == self.at:
            raise KeyboardInterrupt
        return super().read(index)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TinyBackbone(3)


@pytest.fixture
def photos(tmp_path):
    """90 images in three classes, of different sizes."""
    for index in range(90):
        folder = tmp_path / "photos" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 9 + index % 5, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "photos"


def tear(data, *indices):
    for index in indices:
        with open(data.path(index), "wb") as file:
            file.write(b"torn")


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_are_the_features_in_the_order_of_the_paths(encoder, photos, tmp_path, workers):
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


def test_arrays_keep_their_indices_as_names(images, tmp_path):
    encoder = TinyBackbone(1)
    embed(encoder, images, tmp_path / "e.npz", batch_size=40)
    table = EmbeddingTable.load(tmp_path / "e.npz")
    np.testing.assert_array_equal(table.embeddings, extract_features(encoder, images, batch_size=40)[0].numpy())
    assert table.paths.tolist() == [str(index) for index in range(96)] and table.root is None


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_an_interrupted_embed_goes_on_and_equals_an_unbroken_one(encoder, photos, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    whole, broken = tmp_path / f"whole.{suffix}", tmp_path / f"broken.{suffix}"
    embed(encoder, FolderData(photos), whole, **PLAIN)
    data, seen = Stops(photos), []
    for data.at in (20, 50, 51):
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, data, broken, **PLAIN)
        assert not broken.exists()
        seen.append(json.loads((tmp_path / f"broken.{suffix}.unfinished" / "embed.json").read_text())["done"])
    assert seen == [16, 48, 48]
    data.at = 47  # is not read again
    made = embed(encoder, data, broken, **PLAIN)
    assert (made.count, made.written) == (90, 90 - 48)
    assert broken.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"broken.{suffix}.unfinished").exists()
    data.at = 0
    again = embed(encoder, data, broken, **PLAIN)  # complete: nothing is read
    assert (again.count, again.written) == (90, 0)


def test_a_killed_embed_goes_on(encoder, photos, tmp_path):
    """What a kill leaves: rows that the state does not know of, half a row among them."""
    data = Stops(photos)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "e.npz", **PLAIN)
    with (tmp_path / "e.npz.unfinished" / "features.npy.partial").open("ab") as file:
        file.write(b"torn" * 33)
    embed(encoder, FolderData(photos), tmp_path / "e.npz", **PLAIN)
    embed(encoder, FolderData(photos), tmp_path / "whole.npz", **PLAIN)
    assert (tmp_path / "e.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_table_that_could_not_be_written_needs_no_image_again(encoder, photos, tmp_path):
    (tmp_path / "e.npz.partial").mkdir()  # where the table is written to before it has its name
    with pytest.raises(DataError, match=r"e\.npz: cannot be written"):
        embed(encoder, FolderData(photos), tmp_path / "e.npz", **PLAIN)
    (tmp_path / "e.npz.partial").rmdir()
    data = Stops(photos)
    data.at = 0
    assert embed(encoder, data, tmp_path / "e.npz", **PLAIN).written == 0
    assert len(EmbeddingTable.load(tmp_path / "e.npz")) == 90


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_errors_or_left_out(encoder, photos, tmp_path, workers):
    data = FolderData(photos)
    bad = [0, 20, *range(32, 48), *range(80, 90)]  # a whole batch, and the last one, among them
    tear(data, *bad)
    settings = {**PLAIN, "workers": workers}
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


def test_skipped_images_are_remembered_over_an_interrupt(encoder, photos, tmp_path):
    data = Stops(photos, on_error="skip")
    tear(data, 3, 70)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "e.npz", **PLAIN)
    data.at = -1
    made = embed(encoder, data, tmp_path / "e.npz", **PLAIN)
    assert made.skipped == (data.name(3), data.name(70)) and made.written == 88 - 31


def test_nothing_readable(encoder, photos, tmp_path):
    data = FolderData(photos, on_error="skip")
    tear(data, *range(90))
    with pytest.raises(DataError, match=r"none of the 90 images can be read; the first is class0/00\.png"):
        embed(encoder, data, tmp_path / "e.npz", **PLAIN)


def test_what_another_source_began_or_finished_is_left_alone(encoder, photos, tmp_path):
    data = Stops(photos)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "begun.npz", **PLAIN)
    embed(encoder, FolderData(photos), tmp_path / "done.npz", **PLAIN)
    data.at = -1
    other = TinyBackbone(3)
    shifted = FolderData(photos, mean=(0.4, 0.4, 0.4))
    for name in ("begun.npz", "done.npz"):
        for arguments, settings, key in [
            ((other, data), {}, "encoder: "),
            ((encoder, data), {"size": 9}, "size: 8 there, 9 here"),
            ((encoder, data), {"batch_size": 17}, "batch size: 16 there, 17 here"),
            ((encoder, data), {"precision": "bf16"}, "precision: fp32 there, bf16 here"),
            ((encoder, shifted), {}, "mean: "),
            ((encoder, FolderData(photos / "class0")), {}, "folder: "),
        ]:
            with pytest.raises(DataError, match=f"of another source .*{key}"):
                embed(*arguments, tmp_path / name, **{**PLAIN, **settings})
    (photos / "class1" / "new.png").write_bytes((photos / "class1" / "01.png").read_bytes())
    with pytest.raises(DataError, match="images: 90 there, 91 here"):
        embed(encoder, FolderData(photos), tmp_path / "done.npz", **PLAIN)


def test_low_precision_is_near_and_written_as_float32(encoder, photos, tmp_path):
    for precision in ("fp32", "bf16"):
        embed(encoder, FolderData(photos), tmp_path / f"{precision}.npz", precision=precision, **PLAIN)
    full, low = (EmbeddingTable.load(tmp_path / f"{name}.npz").embeddings for name in ("fp32", "bf16"))
    assert low.dtype == np.float32 and not np.array_equal(full, low)
    np.testing.assert_allclose(low, full, rtol=0.05, atol=0.01)


def test_features_that_are_not_finite_name_their_image(photos, tmp_path):
    class Divides(nn.Flatten):
        out_dim = 192

        def forward(self, images):
            values = super().forward(images)
            return values / (values.sum(1, keepdim=True) > 0)

    data = FolderData(photos, mean=(0.0,) * 3, std=(1.0,) * 3)
    Image.new("RGB", (9, 9)).save(data.path(37))
    with pytest.raises(DataError, match=f"{data.name(37)}: the encoder makes NaN"):
        embed(Divides(), data, tmp_path / "e.npz", **PLAIN)


def test_arguments_are_checked_before_anything_is_written(encoder, photos, tmp_path):
    data = FolderData(photos)
    wrong = TinyBackbone(3)
    wrong.out_dim = 7
    for part, changes, message in [
        (nn.Flatten(), {}, "Flatten has no out_dim"),
        (wrong, {}, r"out_dim is 7, and its features are \(16, 16\)"),
        (encoder, {"batch_size": 0}, "batch_size must be at least 1"),
        (encoder, {"workers": -1}, "workers at least 0"),
        (encoder, {"size": None}, "give a size"),
        (encoder, {"precision": "int8"}, "unknown precision"),
    ]:
        with pytest.raises(ValueError, match=message):
            embed(part, data, tmp_path / "e.npz", **{**PLAIN, **changes})
    assert os.listdir(tmp_path) == ["photos"]


def test_a_second_embed_into_the_same_file_waits_for_the_end(encoder, photos, tmp_path):
    (tmp_path / "e.npz.unfinished").mkdir()
    with rows.held(tmp_path / "e.npz.unfinished", "embed"), pytest.raises(DataError, match="another embed is writing"):
        embed(encoder, FolderData(photos), tmp_path / "e.npz", **PLAIN)


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
embed(Repeats(), few, sys.argv[2] + "few.npz")  # loads what has to be loaded once
private = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
limit = private + 100 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
embed(Repeats(), many, sys.argv[2] + "many.npz")
print(len(EmbeddingTable.load(sys.argv[2] + "many.npz")))
try:
    extract_features(Repeats(), many)
except (RuntimeError, MemoryError):
    print("too large to be held")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not tell of its memory")
def test_features_may_be_larger_than_the_memory(tmp_path):
    """320 MB of features within 100 MB of private memory, by the kernel's own limit."""
    np.save(tmp_path / "images.npy", RNG.integers(0, 256, (20_000, 2, 2), dtype=np.uint8))
    command = [sys.executable, "-c", MANY, str(tmp_path / "images.npy"), f"{tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and done.stdout.split("\n") == ["20000", "too large to be held", ""], done.stderr
