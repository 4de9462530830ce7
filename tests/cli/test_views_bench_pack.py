"""Tests of the commands that are used before a run: `ssl-lib views`, `ssl-lib bench` and `ssl-lib pack`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import data
from ssl_lib.cli.bench import format_stages
from ssl_lib.cli.main import main
from ssl_lib.data.base import DataWarning
from ssl_lib.errors import DataError
from ssl_lib.utils.files import locked
from tests.cli.conftest import error_of, stdout_of


@pytest.fixture
def photos(tmp_path):
    """A folder with train and val folders of two classes, and images of two sizes."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index in range(5):
                pixels = generator.integers(0, 256, (20 + index % 2, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{index}.png")
    return tmp_path / "photos"


def test_views_draws_images_next_to_their_views(tmp_path, capsys):
    target = tmp_path / "pictures" / "views.png"
    assert main(["views", "quickstart", "views={preset: byol, size: 28}", "-o", str(target), "--images", "3"]) == 0
    assert "3 images and their 2 views" in capsys.readouterr().out
    picture = np.asarray(Image.open(target))
    assert picture.shape == (3 * 116 + 32, 3 * 116 + 4, 3)
    first = picture[32:144, 4:116, 0]  # the first training image, enlarged four times
    expected = data.fashion_mnist_mini(split="train").read(0)[0].numpy().repeat(4, 0).repeat(4, 1)
    assert np.array_equal(first, expected)


def test_views_undoes_the_normalization_of_a_folder(photos, tmp_path):
    identity = (
        "{preset: simclr, size: 112, crop_scale: [1.0, 1.0], flip_p: 0.0, jitter_p: 0.0, grayscale_p: 0.0, blur_p: 0.0}"
    )
    square = Image.new("RGB", (64, 64), (200, 30, 90))
    square.save(photos / "train" / "cat" / "0.png")
    arguments = [f"data={{name: image_folder, root: {photos}}}", f"views={identity}", "views.crop_ratio=[1.0, 1.0]"]
    assert main(["views", "quickstart", *arguments, "-o", str(tmp_path / "v.png"), "--images", "1"]) == 0
    picture = np.asarray(Image.open(tmp_path / "v.png"))
    for left in (4, 120, 236):
        assert np.abs(picture[32:144, left : left + 112].astype(int) - (200, 30, 90)).max() <= 1


def test_views_reports_wrong_arguments(capsys):
    assert "--images must be at least 1" in error_of(capsys, "views", "quickstart", "--images", "0")
    assert "must end in a picture's suffix" in error_of(capsys, "views", "quickstart", "-o", "views.nonsense")


def test_bench_measures_every_stage_and_writes_no_run(capsys):
    small = ["backbone.width=8", "trainer.batch_size=32", "method={name: byol, hidden_dim: 16, out_dim: 8}"]
    out = stdout_of(capsys, "bench", "quickstart", *small, "--seconds", "0.5")
    for stage in ("data wait", "copy", "views", "forward", "backward", "optimizer", "teacher", "other", "step"):
        assert f"\n  {stage} " in out
    assert "images/s" in out and not list(Path().iterdir())


def test_stages_add_up_and_the_slowest_stage_around_the_network_is_named():
    seconds = {"data wait": 3.0, "views": 1.0, "forward": 1.0, "backward": 2.0, "optimizer": 0.5}
    lines = format_stages(seconds, elapsed=8.0, steps=10, batch_size=64).splitlines()
    assert lines[0] == "  data wait    300.00 ms  37.5 %"
    assert lines[-4].split()[:2] == ["other", "50.00"]
    assert lines[-3].split()[:4] == ["step", "800.00", "ms", "100.0"]
    assert lines[-2] == "80 images/s, 44 % of the network's own speed of 183"
    assert "the network waits, mostly for data wait: raise trainer.workers" in lines[-1]
    seconds |= {"data wait": 0.0, "views": 0.4}
    lines = format_stages(seconds, elapsed=4.0, steps=10, batch_size=64).splitlines()
    assert "the network takes most of the time, as it should" in lines[-1]


def test_packed_folder_can_be_trained_on_by_its_path(photos, tmp_path, capsys):
    packed = tmp_path / "packed"
    assert main(["pack", str(photos), str(packed), "--size", "16", "--workers", "0"]) == 0
    captured = capsys.readouterr()
    assert "train: 10 images" in captured.err and "test: 10 images" in captured.err
    assert f"data={{name: arrays, path: {packed}}}" in captured.out
    train, test = (data.arrays(packed, split=split) for split in ("train", "test"))
    folder = data.FolderData(photos / "train")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert torch.equal(train.labels, folder.labels) and train.memory_mapped
    changes = [
        "backbone.width=8",
        "schedule={epochs: 2}",
        "trainer.batch_size=8",
        "views.size=16",
        "evaluation.linear=null",
    ]
    arguments = [f"data={{name: arrays, path: {packed}}}", "evaluation.knn.k=3", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "quickstart", *changes, *arguments]) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["images"]["queries"] == 10


def test_training_on_an_incomplete_pack_is_refused(photos, tmp_path, capsys):
    packed = tmp_path / "packed"
    broken = photos / "train" / "dog" / "3.png"
    broken.write_bytes(b"no image")
    command = ["pack", str(photos), str(packed), "--size", "16", "--workers", "0"]
    assert str(broken) in error_of(capsys, *command)
    data_setting = f"data={{name: arrays, path: {packed}}}"
    error = error_of(capsys, "train", "quickstart", data_setting, f"run_dir={tmp_path / 'run'}")
    assert "is not completely packed: run the same `ssl-lib pack` command again to resume" in error
    assert main([*command, "--skip-unreadable"]) == 0
    assert f"1 unreadable image left out:\n  {broken}" in capsys.readouterr().err
    assert len(data.arrays(packed)) == 9


def test_pack_with_invalid_numbers_writes_nothing(photos, tmp_path, capsys):
    for arguments in (["--size", "0"], ["--workers", "-1"]):
        error = error_of(capsys, "pack", photos, tmp_path / "packed", *arguments)
        assert "size must be at least 1 pixel and workers at least 0" in error
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("inside", [".", "packed", "a/packed"])
def test_pack_into_its_source_folder_is_refused(photos, inside, capsys):
    before = sorted(photos.rglob("*"))
    error = error_of(capsys, "pack", photos, photos / inside, "--size", "16")
    assert "is inside the folder of the images" in error
    assert sorted(photos.rglob("*")) == before


def test_second_pack_into_the_same_folder_is_refused(photos, tmp_path):
    with locked(tmp_path / ".lock"), pytest.raises(DataError, match="another pack is writing to it"):
        data.pack(data.FolderData(photos / "train"), tmp_path, 8, workers=0)


def test_bench_reads_no_test_images(photos, tmp_path):
    (photos / "val" / "cat" / "0.png").write_bytes(b"no image")
    arguments = [f"data={{name: image_folder, root: {photos}}}", "backbone.width=8", "views.size=16"]
    assert main(["bench", "quickstart", *arguments, "trainer={batch_size: 4, workers: 0}", "--seconds", "0.2"]) == 0


@pytest.mark.parametrize("seconds", ["0", "nan", "inf"])
def test_bench_refuses_an_invalid_time(seconds, capsys):
    assert "--seconds must be above 0" in error_of(capsys, "bench", "quickstart", "--seconds", seconds)


def test_pack_reads_files_as_the_keys_of_data_say(tmp_path, capsys):
    scene = np.random.default_rng(0).integers(0, 256, (40, 70, 4), dtype=np.uint8)
    (tmp_path / "scenes").mkdir()
    np.save(tmp_path / "scenes" / "a.npy", scene)
    command = ["pack", tmp_path / "scenes", tmp_path / "tiles", "--tile", "--size", "16", "--workers", "0"]
    assert "data.bands=all" in error_of(capsys, *command)
    assert "keys of `data` only, such as data.bands=all, got trainer.seed" in error_of(
        capsys, *command, "trainer.seed=1"
    )
    assert "Did you mean 'data.bands'" in error_of(capsys, *command, "data.band=all")
    with pytest.warns(DataWarning, match="leave out 27 % of the pixels"):
        stdout_of(capsys, *command, "data.bands=[3,1]")
    tiles = np.load(tmp_path / "tiles" / "train" / "images.npy")
    expected = [scene[4 + 16 * row :, 3 + 16 * column :][:16, :16, [3, 1]] for row in range(2) for column in range(4)]
    np.testing.assert_array_equal(tiles, expected)
    assert "bands: [3, 1] there, [0, 1] here" in error_of(capsys, *command, "data.bands=[0,1]")
    assert "2 of them now" not in stdout_of(capsys, *command, "data.bands=[3,1]")  # complete: nothing is written again
