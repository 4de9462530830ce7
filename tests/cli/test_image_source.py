"""`--images RUN` and `--images FOLDER` for tables whose rows are files, members of shards, or indices."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.image_source import image_reader
from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable
from tests.cli.conftest import QUICK, error_of, stdout_of
from tests.data.shard_samples import encoded, write

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
PIXELS[7] = PIXELS[3]
SETTINGS = [*QUICK, "schedule.epochs=1", "trainer.batch_size=4", "trainer.workers=0"]


@pytest.fixture
def files(tmp_path):
    """A folder of files without labels, a run that was trained on them, and the table of its own images."""
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "photos" / ("sub" if index % 2 else "") / f"{index:02}.png")
    trained(tmp_path, f"data={{name: image_folder, root: {tmp_path / 'photos'}, channels: 1}}")
    return tmp_path


def trained(folder, data):
    assert main(["train", "quickstart", data, *SETTINGS, f"run_dir={folder / 'run'}"]) == 0
    assert main(["embed", str(folder / "run"), "-o", str(folder / "e.npz"), "trainer.workers=0"]) == 0


def test_run_names_the_images_of_a_table_of_files(files, capsys):
    table = EmbeddingTable.load(files / "e.npz")
    for images in (files / "run", files / "run" / "config.yaml", files / "photos"):
        read = image_reader(table, str(images))
        for row, path in enumerate(table.paths.tolist()):
            np.testing.assert_array_equal(read(row)[0], PIXELS[int(path.removeprefix("sub/")[:2])])
        stdout_of(capsys, "nearest", files / "e.npz", "sub/03.png", "--images", images, "-o", files / "grid.png")
        out = stdout_of(capsys, "duplicates", files / "e.npz", "--images", images, "-o", files / "groups.html")
        assert "1 image to drop with exactly the bytes" in out and "sub/07.png" in out
    out = stdout_of(capsys, "duplicates", files / "e.npz", "--images", files / "run", "--flips", files / "run")
    assert "1 image to drop with exactly the bytes" in out


def test_run_with_other_images_is_refused(files, capsys, tmp_path):
    (files / "photos" / "00.png").rename(files / "photos" / "zero.png")
    for words in (("nearest", "0", "-o", files / "x.png"), ("duplicates",), ("duplicates", "--flips", files / "run")):
        error = error_of(capsys, words[0], files / "e.npz", *words[1:], "--images", files / "run")
        assert "run: its images are not those of the table, such as 00.png: give the folder, or the run" in error
    (files / "photos" / "zero.png").unlink()
    error = error_of(capsys, "nearest", files / "e.npz", "0", "-o", files / "x.png", "--images", files / "run")
    assert "run: its images are not the 12 images of the table: give the folder, or the run" in error


def test_packed_folder_is_not_the_folder_of_a_table_of_files(files, capsys):
    assert main(["pack", str(files / "photos"), str(files / "pack"), "--size", "28", "--channels", "1"]) == 0
    for words in (("nearest", "0", "-o", files / "x.png"), ("duplicates",)):
        error = error_of(capsys, words[0], files / "e.npz", *words[1:], "--images", files / "pack")
        assert "its images are not those of the table" in error or "cannot be read" in error


def test_run_names_the_images_of_a_table_of_shards(tmp_path, capsys):
    write(tmp_path / "a.tar", [(f"{index:02}.png", encoded(pixels)) for index, pixels in enumerate(PIXELS)])
    trained(tmp_path, f"data={{name: webdataset, urls: {tmp_path / 'a.tar'}, channels: 1}}")
    table = EmbeddingTable.load(tmp_path / "e.npz")
    assert table.paths[3] == f"{tmp_path}/a.tar:03.png"
    read = image_reader(table, str(tmp_path / "run"))
    for row in range(12):
        np.testing.assert_array_equal(read(row)[0], PIXELS[row])
    assert main(["duplicates", str(tmp_path / "e.npz"), "--images", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert "1 group of near-duplicates" in captured.out and "exact copies are not recognized" in captured.err
