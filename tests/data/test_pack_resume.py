"""Interrupted packs: a second call resumes and writes the same files."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from ssl_lib.data import FolderData, resumable
from ssl_lib.data.pack import pack
from ssl_lib.errors import DataError
from tests.conftest import full_disk
from tests.data.pack_samples import SIZE, Interrupted, contents


def test_interrupted_pack_resumes(many, tmp_path):
    destination = tmp_path / "out"
    whole = pack(FolderData(many), tmp_path / "whole", SIZE, workers=0)
    data = Interrupted(many)
    for data.at in (20, 70, 149):
        with pytest.raises(KeyboardInterrupt):
            pack(data, destination, SIZE, workers=0)
        assert sorted(contents(destination)) == ["images.npy.partial", "pack.json"]
        assert json.loads((destination / "pack.json").read_text())["done"] == data.at // 32 * 32
    packed = pack(FolderData(many), destination, SIZE, workers=0)
    assert (packed.count, packed.written) == (150, 150 - 128)
    assert contents(destination) == contents(tmp_path / "whole")
    before = (packed.images.stat().st_mtime_ns, contents(destination))
    again = pack(FolderData(many), destination, SIZE, workers=0)
    assert (again.count, again.written) == (whole.count, 0)
    assert (packed.images.stat().st_mtime_ns, contents(destination)) == before


def test_killed_pack_resumes(many, tmp_path, monkeypatch):
    """A copy of the files in the middle of a pack, with part of a batch appended, is what a kill leaves."""
    monkeypatch.setattr(resumable, "_SAVE_EVERY", 0.0)
    left = tmp_path / "left"

    class CopiesFiles(FolderData):
        def read(self, index):
            if index == 100:
                shutil.copytree(tmp_path / "whole", left)
            return super().read(index)

    pack(CopiesFiles(many), tmp_path / "whole", SIZE, workers=0)
    assert json.loads((left / "pack.json").read_text())["done"] == 96
    with (left / "images.npy.partial").open("ab") as file:
        file.write(b"torn" * 1000)
    assert pack(FolderData(many), left, SIZE, workers=0).written == 150 - 96
    assert contents(left) == contents(tmp_path / "whole")


def test_resumed_pack_keeps_the_skipped_images(many, tmp_path):
    data = Interrupted(many, on_error="skip")
    for index in (3, 90):
        with open(data.path(index), "wb") as file:
            file.write(b"torn")
    data.at = 70
    with pytest.raises(KeyboardInterrupt):
        pack(data, tmp_path / "out", SIZE, workers=0)
    data.at = -1
    packed = pack(data, tmp_path / "out", SIZE, workers=0)
    assert (packed.count, packed.written) == (148, 148 - 63)
    assert packed.skipped == (data.path(3), data.path(90))
    assert len(np.load(packed.labels)) == len(np.load(packed.images)) == 148


def test_truncated_partial_file_raises_an_error(many, tmp_path):
    data = Interrupted(many)
    data.at = 70
    with pytest.raises(KeyboardInterrupt):
        pack(data, tmp_path / "out", SIZE, workers=0)
    partial = tmp_path / "out" / "images.npy.partial"
    os.truncate(partial, 1000)
    with pytest.raises(DataError, match="shorter than"):
        pack(data, tmp_path / "out", SIZE, workers=0)
    partial.unlink()  # without the file, all images are packed again
    assert pack(FolderData(many), tmp_path / "out", SIZE, workers=0).written == 150


@pytest.mark.parametrize("free", [100, 20_000])
def test_pack_resumes_after_a_full_disk(many, tmp_path, free):
    destination = tmp_path / "out"
    with full_disk(free), pytest.raises(DataError, match=r"out: cannot be written \(File too large\); free space"):
        pack(FolderData(many), destination, SIZE, workers=0)
    assert not (destination / "images.npy").exists()
    pack(FolderData(many), destination, SIZE, workers=0)
    pack(FolderData(many), tmp_path / "whole", SIZE, workers=0)
    assert contents(destination) == contents(tmp_path / "whole")
