"""Tests of `ssl-lib duplicates --flips` with the run that embedded the images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.arguments import make_parser
from ssl_lib.cli.flips import mirrored_embeddings
from ssl_lib.embedding import EmbeddingTable
from tests.cli.conftest import QUICK, error_of, stdout_of


def computed(table, *words):
    """The embeddings that `duplicates TABLE *words` compares."""
    parser, _ = make_parser()
    options = parser.parse_args(["duplicates", str(table), *map(str, words)])
    return mirrored_embeddings(options, EmbeddingTable.load(table))


@pytest.fixture
def mirrored_photos(photos, tmp_path):
    """Three images and their mirrored copies, of odd sizes, so that the crops of both must be mirrored, too."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("00.png", (28, 28)), ("02.png", (41, 28)), ("04.png", (30, 45))):
        image = Image.open(photos / "bag" / name).resize(size)
        image.save(folder / name)
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / f"mirrored {name}")
    return folder


def test_run_embeds_the_mirrored_images(quick_run, mirrored_photos, tmp_path, capsys):
    table = tmp_path / "e.npz"
    stdout_of(capsys, "embed", quick_run, mirrored_photos, "-o", table, "--batch-size", "4")
    plain, found = EmbeddingTable.load(table).embeddings, computed(table, "--flips", quick_run)
    np.testing.assert_allclose(found, np.r_[plain[3:], plain[:3]], rtol=1e-4, atol=1e-5)
    assert np.abs(plain[:3] - plain[3:]).max() > 0.01
    out = stdout_of(capsys, "duplicates", table, "--flips", quick_run, "--threshold", "0.99999")
    assert out.count("mirrored  mirrored 0") == 3
    assert "0 groups" in stdout_of(capsys, "duplicates", table, "--threshold", "0.99999")


def test_images_of_the_run_itself_are_mirrored(quick_run, tmp_path, capsys):
    table, mirrored = tmp_path / "own.npz", tmp_path / "mirrored.npz"
    for path, option in ((table, []), (mirrored, ["--mirrored"])):
        stdout_of(capsys, "embed", quick_run, "-o", path, *option)
    found = computed(table, "--flips", quick_run, "--images", quick_run)
    np.testing.assert_allclose(found, EmbeddingTable.load(mirrored).embeddings, rtol=1e-4, atol=1e-5)


def test_other_runs_tables_and_folders_are_refused(quick_run, table, photos, tmp_path, capsys):
    other = tmp_path / "other"
    stdout_of(capsys, "train", "quickstart", *QUICK, "seed=1", f"run_dir={other}")
    assert "is not the run that embedded" in error_of(capsys, "duplicates", table, "--flips", other)
    assert "no run at nowhere: it is neither" in error_of(capsys, "duplicates", table, "--flips", "nowhere")
    stdout_of(capsys, "embed", quick_run, photos, "-o", tmp_path / "m.npz", "--mirrored")
    error = error_of(capsys, "duplicates", tmp_path / "m.npz", "--flips", quick_run)
    assert "is a table of mirrored images" in error
    EmbeddingTable(np.eye(2, dtype=np.float32), np.array(["a", "b"])).save(tmp_path / "foreign.npz")
    assert "is not the run that" in error_of(capsys, "duplicates", tmp_path / "foreign.npz", "--flips", quick_run)
    moved = error_of(capsys, "duplicates", table, "--flips", quick_run, "--images", tmp_path)
    assert "cannot be read (No such file or directory); give another folder with --images" in moved
