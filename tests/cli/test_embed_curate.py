"""`ssl-lib embed | nearest | duplicates | select`, as a user meets them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import TrainedBackbone, data, load_method
from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable, duplicate_groups, farthest_points
from ssl_lib.evaluation import extract_features

QUICK = ["schedule.epochs=0.05", "schedule.warmup_epochs=0", "backbone.width=8", "method.hidden_dim=16",
         "evaluation.knn=null", "evaluation.linear=null"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    assert main(["train", "quickstart", *QUICK, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 images in two classes; the first three of `bag` lie in `boot` once more."""
    root = tmp_path_factory.mktemp("data") / "photos"
    images = data.fashion_mnist_mini(split="test")
    for name in ("bag", "boot"):
        (root / name).mkdir(parents=True)
    for index in range(40):
        Image.fromarray(images.read(index)[0].numpy()).save(root / ("bag", "boot")[index % 2] / f"{index:02}.png")
    for index in (0, 2, 4):
        Image.fromarray(images.read(index)[0].numpy()).save(root / "boot" / f"{index:02}.png")
    return root


@pytest.fixture(scope="module")
def table(run, photos):
    """The embeddings of `photos`."""
    target = photos.parent / "e.npz"
    assert main(["embed", str(run), "-o", str(target), str(photos), "--workers", "0", "--batch-size", "8"]) == 0
    return target


def test_images_are_shown_as_a_backbone_of_the_run_shows_them(run, photos, table):
    backbone, made = TrainedBackbone.from_run(run), EmbeddingTable.load(table)
    with torch.no_grad():
        expected = backbone(backbone.preprocess([Image.open(photos / path) for path in made.paths]))
    torch.testing.assert_close(torch.from_numpy(np.array(made.embeddings)), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_is_evaluated_with_the_channels_and_statistics_of_the_run(run, photos, tmp_path, capsys):
    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / split)
    output = tmp_path / "e.json"
    command = ["evaluate", str(run), "knn", "evaluation.knn.k=1", "--data", str(tmp_path), "--output", str(output)]
    assert main(command) == 0
    assert json.loads(output.read_text())["results"]["trained"]["knn"] > 0.85  # each test image is in the bank itself
    assert main(["evaluate", str(run), "knn", "--data", str(photos)]) == 2
    assert "labeled training and test images (of a folder, class folders" in capsys.readouterr().err
    assert main(["evaluate", str(run), "kn"]) == 2
    assert "unknown protocol 'kn'. Did you mean 'knn'?" in capsys.readouterr().err


KEPT = '''
from dataclasses import dataclass
import numpy as np
from ssl_lib import PROTOCOLS
from ssl_lib.evaluation import Metric, Scores

@PROTOCOLS.register("kept")
@dataclass(frozen=True)
class Kept:
    """Keeps the features that it is given.

    Attributes:
        file: Where.
    """

    file: str
    measures = (Metric("kept", "kept"),)

    def check(self, bank_labels):
        pass

    def __call__(self, subject):
        np.savez(self.file, subject.features.bank, subject.features.queries)  # of the trained encoder last
        return Scores({"kept": 0.0})
'''


@pytest.mark.parametrize("size", [[], ["--size", "20"]])
def test_evaluate_and_embed_show_other_images_alike(run, tmp_path, size):
    """Photographs of other sizes, to a run that was shown arrays as they are."""
    rng = np.random.default_rng(0)
    for index in range(12):
        folder = tmp_path / "photos" / ("train", "val")[index % 2] / f"class{index // 6}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    (tmp_path / "kept.py").write_text(KEPT)
    changes = [f"imports=[{tmp_path / 'kept.py'}]", f"evaluation.kept.file={tmp_path / 'kept.npz'}"]
    changes += [f"evaluation.image_size={size[1]}"] if size else []
    assert main(["evaluate", str(run), "kept", *changes, "--data", str(tmp_path / "photos")]) == 0
    with np.load(tmp_path / "kept.npz") as evaluated:
        for split, features in zip(("train", "val"), evaluated.values(), strict=True):
            target, photos = tmp_path / f"{split}.npz", tmp_path / "photos" / split
            assert main(["embed", str(run), str(photos), "-o", str(target), "--workers", "0", *size]) == 0
            np.testing.assert_array_equal(EmbeddingTable.load(target).embeddings, features)


def printed(capsys, *command):
    """What a command that succeeds prints to stdout."""
    capsys.readouterr()
    assert main(list(map(str, command))) == 0
    return capsys.readouterr().out


def refused(capsys, *command):
    """What a command prints to stderr that a user's error ends."""
    capsys.readouterr()
    assert main(list(map(str, command))) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_embed_shows_images_as_the_run_evaluates_its_own(run, photos, table):
    made, own = EmbeddingTable.load(table), data.fashion_mnist_mini(split="test")
    places = torch.tensor([int(path[-6:-4]) for path in made.paths])
    features, _ = extract_features(load_method(run).encoder, own, indices=places, size=28, batch_size=8)
    np.testing.assert_allclose(made.embeddings, features.numpy(), rtol=1e-4, atol=1e-5)  # of other batches
    assert made.classes == ("bag", "boot") and made.root == os.path.realpath(photos)


def test_embed_without_images_takes_those_of_the_run(run, tmp_path, capsys):
    target = tmp_path / "own.npz"
    assert main(["embed", str(run), "-o", str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"6,000 images x {load_method(run).encoder.out_dim}, ")
    drawn, others = f"{target} 0 -o grid.png --images {run}", f"duplicates {target}, ssl-lib select {target} -n 100"
    assert captured.out == f"to look at it: ssl-lib nearest {drawn}; or ssl-lib {others}\n"
    assert main(["embed", str(run), "-o", str(target)]) == 0
    assert ", all there already, " in capsys.readouterr().err
    assert main(["embed", str(run / "checkpoints" / "last.pt"), "-o", str(target)]) == 0
    assert f"nearest {drawn};" in capsys.readouterr().out
    own = EmbeddingTable.load(target)
    np.testing.assert_array_equal(own.labels, data.fashion_mnist_mini(split="train").labels)
    assert "--images" in refused(capsys, "nearest", target, "7", "-o", tmp_path / "grid.png")
    printed(capsys, "nearest", target, "7", "-k", "2", "-o", tmp_path / "grid.png", "--images", run)
    shown = np.asarray(Image.open(tmp_path / "grid.png"))[14:154, 14:154, 0]
    expected = data.fashion_mnist_mini(split="train").read(7)[0].numpy().repeat(5, 0).repeat(5, 1)
    np.testing.assert_array_equal(shown, expected)


def test_embed_takes_what_pack_wrote(run, photos, table, tmp_path, capsys):
    for name, channels in (("gray", "1"), ("color", "3")):
        printed(capsys, "pack", photos, tmp_path / name, "--size", "28", "--channels", channels, "--workers", "0")
    printed(capsys, "embed", run, tmp_path / "gray", "-o", tmp_path / "p.npz")
    made, other = EmbeddingTable.load(tmp_path / "p.npz"), EmbeddingTable.load(table)
    assert made.paths.tolist() == [str(row) for row in range(43)] and made.classes == other.classes
    printed(capsys, "nearest", tmp_path / "p.npz", "3", "-o", tmp_path / "grid.png")
    error = refused(capsys, "embed", run, tmp_path / "color", "-o", tmp_path / "c.npz")
    assert "images of 3 channels, where the run has 1" in error
    os.rename(tmp_path / "color" / "train", tmp_path / "gray" / "test")
    assert "holds train and test: give" in refused(capsys, "embed", run, tmp_path / "gray", "-o", tmp_path / "c.npz")


def test_embed_names_what_is_wrong(run, photos, tmp_path, capsys):
    target = str(tmp_path / "e.npz")
    broken = tmp_path / "photos"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"torn")
    Image.new("L", (28, 28), 9).save(broken / "b.png")
    assert f"{broken}/a.png cannot be read as an image" in refused(capsys, "embed", run, broken, "-o", target)
    assert main(["embed", str(run), str(broken), "-o", target, "--skip-unreadable", "--workers", "0"]) == 0
    assert f"1 unreadable image left out:\n  {broken}/a.png" in capsys.readouterr().err
    assert EmbeddingTable.load(target).paths.tolist() == ["b.png"] and EmbeddingTable.load(target).labels is None
    assert "is there already, of another source" in refused(capsys, "embed", run, photos, "-o", target)
    assert "one folder of images, got a and b" in refused(capsys, "embed", run, "a", "b", "-o", target)
    assert "nowhere does not exist" in refused(capsys, "embed", run, tmp_path / "nowhere")
    assert "--size must be at least 1 pixel, got 0" in refused(capsys, "embed", run, photos, "--size", "0")
    assert "must end in .npz or .parquet" in refused(capsys, "embed", run, photos, "-o", tmp_path / "e.csv")
    error = refused(capsys, "embed", run, photos, "data={name: image_folder, root: gone}", "-o", tmp_path / "n.npz")
    assert "say how to normalize others: name them by data.root=" in error
    assert "backbone.width cannot change any more" in refused(capsys, "embed", run, photos, "backbone.width=3")
    assert "unknown argument '--nonsense'" in refused(capsys, "embed", run, photos, "--nonsense")


def test_nearest_prints_ranks_and_draws_a_picture(table, photos, tmp_path, capsys):
    grid = tmp_path / "made" / "grid.png"
    out = printed(capsys, "nearest", table, "bag/02.png", photos / "boot" / "01.png", "-k", "3", "-o", grid)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["bag/02.png", "bag"] and lines[1] == ["rank", "cosine", "path", "label"]
    assert lines[2] == ["1", "1.0000", "boot/02.png", "boot"] and lines[5] == ["boot/01.png", "boot"]
    assert len(lines) == 2 * 5 + 1 and lines[-1] == [str(grid)]
    picture = np.asarray(Image.open(grid).convert("L"))
    original = np.asarray(Image.open(photos / "bag" / "02.png")).repeat(5, 0).repeat(5, 1)
    for left in (14, 14 + 154 + 14):  # the query and its copy beside it
        np.testing.assert_array_equal(picture[14:154, left : left + 140], original)
    assert "no image 'c.png' among these 43" in refused(capsys, "nearest", table, "c.png")
    assert "-k must be at least 1, got 0" in refused(capsys, "nearest", table, "0", "-k", "0")
    assert "must end in a picture's suffix" in refused(capsys, "nearest", table, "0", "-o", tmp_path / "grid.x")
    gone = refused(capsys, "nearest", table, "0", "-o", grid, "--images", tmp_path)
    assert f"{tmp_path}/bag/00.png: cannot be drawn (No such file or directory)" in gone


def test_duplicates_prints_groups_and_writes_what_to_drop(table, tmp_path, capsys):
    dropped = tmp_path / "made" / "drop.txt"
    out = printed(capsys, "duplicates", table, "--threshold", "1", "--show", "2", "-o", dropped)
    assert out.startswith("3 groups of near-duplicates, at a cosine of 1 or more: 3 of 43 images to drop\n")
    assert "3 groups with more than one label\n" in out and "1 group not shown; --show 3 prints all" in out
    assert "2 images\n  keep  1.0000  bag/00.png  bag\n  drop  1.0000  boot/00.png  boot\n" in out
    assert dropped.read_text().splitlines() == ["boot/00.png", "boot/02.png", "boot/04.png"]
    made = EmbeddingTable.load(table)
    groups = duplicate_groups(made.embeddings, 0.9)
    out = printed(capsys, "duplicates", table, "--threshold", "0.9", "-o", dropped)
    expected = sorted(made.paths[row] for group in groups for row in group[1:])
    assert dropped.read_text().splitlines() == expected
    assert "less alike" not in out
    assert "threshold must be above 0" in refused(capsys, "duplicates", table, "--threshold", "2")


def test_duplicates_tells_of_chains(tmp_path, capsys):
    angles = np.radians([0, 10, 20])
    table = EmbeddingTable(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), np.array(list("abc")))
    table.save(tmp_path / "e.npz")
    out = printed(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.98")
    assert f"some are less alike, down to {np.cos(angles[2]):.4f}, joined by others between" in out
    assert "less alike" not in printed(capsys, "duplicates", tmp_path / "e.npz", "--threshold", "0.93")


def test_select_writes_a_subset_and_compares_it_with_a_random_one(table, tmp_path, capsys):
    chosen = tmp_path / "chosen.txt"
    out = printed(capsys, "select", table, "-n", "9", "--seed", "1", "-o", chosen)
    made = EmbeddingTable.load(table)
    expected = made.paths[farthest_points(made.embeddings, 9, seed=1)]
    assert chosen.read_text().splitlines() == expected.tolist()
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert float(rows["k-center"][1]) < float(rows["random"][1])
    out = printed(capsys, "select", table, "-n", "9", "--method", "random", "-o", chosen)
    assert "k-center" not in out and len(set(chosen.read_text().splitlines())) == 9
    assert "-n must be from 1 to 43" in refused(capsys, "select", table, "-n", "44")
    assert "--seed must be at least 0" in refused(capsys, "select", table, "-n", "4", "--seed", "-1")


@pytest.mark.parametrize("words", [("nearest", "0"), ("duplicates",), ("select", "-n", "3")])
def test_an_output_that_cannot_be_written_is_told_before_the_work(words, table, capsys):
    command, *rest = words
    name = "grid.png" if command == "nearest" else "list.txt"
    assert f"{name} cannot be written" in refused(capsys, command, table, *rest, "-o", table / name)
    assert main([command, str(table), *rest, "-o", str(table / name)]) == 2 and not capsys.readouterr().out


def test_a_path_with_a_line_break_is_not_written_to_a_list(tmp_path, capsys):
    names = np.array(["a\nb.png", "c.png"])
    EmbeddingTable(np.ones((2, 3), np.float32), names).save(tmp_path / "e.npz")
    error = refused(capsys, "select", tmp_path / "e.npz", "-n", "2", "-o", tmp_path / "s.txt")
    assert "line break" in error and not (tmp_path / "s.txt").exists()
