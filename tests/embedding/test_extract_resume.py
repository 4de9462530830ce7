"""Tests of resuming an interrupted `embed`, and of existing or concurrent results."""

from __future__ import annotations

import json

import pytest

from ssl_lib.data import FolderData
from ssl_lib.data.resumable import held
from ssl_lib.embedding import EmbeddingTable, embed
from ssl_lib.errors import DataError
from tests.conftest import TinyBackbone
from tests.embedding.conftest import OPTIONS, InterruptedData, corrupt


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_interrupted_embed_resumes_and_equals_uninterrupted_embed(encoder, photos, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    whole, broken = tmp_path / f"whole.{suffix}", tmp_path / f"broken.{suffix}"
    embed(encoder, FolderData(photos), whole, **OPTIONS)
    data, progress = InterruptedData(photos), []
    for data.at in (20, 50, 51):
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, data, broken, **OPTIONS)
        assert not broken.exists()
        progress.append(json.loads((tmp_path / f"broken.{suffix}.unfinished" / "embed.json").read_text())["done"])
    assert progress == [16, 48, 48]
    data.at = 47  # already embedded, so not read again
    made = embed(encoder, data, broken, **OPTIONS)
    assert (made.count, made.written) == (90, 90 - 48)
    assert broken.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"broken.{suffix}.unfinished").exists()
    data.at = 0
    again = embed(encoder, data, broken, **OPTIONS)  # complete, so nothing is read
    assert (again.count, again.written) == (90, 0)


def test_killed_embed_resumes(encoder, photos, tmp_path):
    """A kill can leave rows that the saved state does not count, including an incomplete row."""
    data = InterruptedData(photos)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "e.npz", **OPTIONS)
    with (tmp_path / "e.npz.unfinished" / "features.npy.partial").open("ab") as file:
        file.write(b"torn" * 33)
    embed(encoder, FolderData(photos), tmp_path / "e.npz", **OPTIONS)
    embed(encoder, FolderData(photos), tmp_path / "whole.npz", **OPTIONS)
    assert (tmp_path / "e.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_retry_after_failed_write_reads_no_image(encoder, photos, tmp_path):
    (tmp_path / "e.npz.partial").mkdir()  # blocks the temporary file of the table
    with pytest.raises(DataError, match=r"e\.npz: cannot be written"):
        embed(encoder, FolderData(photos), tmp_path / "e.npz", **OPTIONS)
    (tmp_path / "e.npz.partial").rmdir()
    data = InterruptedData(photos)
    data.at = 0
    assert embed(encoder, data, tmp_path / "e.npz", **OPTIONS).written == 0
    assert len(EmbeddingTable.load(tmp_path / "e.npz")) == 90


def test_skipped_images_are_remembered_after_an_interrupt(encoder, photos, tmp_path):
    data = InterruptedData(photos, on_error="skip")
    corrupt(data, 3, 70)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "e.npz", **OPTIONS)
    data.at = -1
    made = embed(encoder, data, tmp_path / "e.npz", **OPTIONS)
    assert made.skipped == (data.name(3), data.name(70)) and made.written == 88 - 31


def test_result_of_another_source_raises_and_is_kept(encoder, photos, tmp_path):
    data = InterruptedData(photos)
    data.at = 40
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, data, tmp_path / "begun.npz", **OPTIONS)
    embed(encoder, FolderData(photos), tmp_path / "done.npz", **OPTIONS)
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
            with pytest.raises(DataError, match=f"from another source .*{key}"):
                embed(*arguments, tmp_path / name, **{**OPTIONS, **settings})
    (photos / "class1" / "new.png").write_bytes((photos / "class1" / "01.png").read_bytes())
    with pytest.raises(DataError, match="images: 90 there, 91 here"):
        embed(encoder, FolderData(photos), tmp_path / "done.npz", **OPTIONS)


def test_concurrent_embed_into_the_same_file_raises(encoder, photos, tmp_path):
    (tmp_path / "e.npz.unfinished").mkdir()
    with held(tmp_path / "e.npz.unfinished", "embed"), pytest.raises(DataError, match="another embed is writing"):
        embed(encoder, FolderData(photos), tmp_path / "e.npz", **OPTIONS)
