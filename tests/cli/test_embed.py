"""Tests of `ssl-lib embed`, and of evaluating a run on other images."""

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
from ssl_lib.data.base import DataWarning
from ssl_lib.embedding import EmbeddingTable
from ssl_lib.evaluation import extract_features
from tests.cli.conftest import error_of, stdout_of


def test_embeddings_equal_the_trained_backbone_with_its_preprocessing(quick_run, photos, table):
    backbone, made = TrainedBackbone.from_run(quick_run), EmbeddingTable.load(table)
    with torch.no_grad():
        expected = backbone(backbone.preprocess([Image.open(photos / path) for path in made.paths]))
    torch.testing.assert_close(torch.from_numpy(np.array(made.embeddings)), expected, rtol=1e-4, atol=1e-5)


def test_evaluate_on_a_folder_uses_channels_and_statistics_of_the_run(quick_run, photos, tmp_path, capsys):
    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / split)
    output = tmp_path / "e.json"
    command = [
        "evaluate",
        str(quick_run),
        "knn",
        "evaluation.knn.k=1",
        "--data",
        str(tmp_path),
        "--output",
        str(output),
    ]
    assert main(command) == 0
    assert json.loads(output.read_text())["results"]["trained"]["knn"] > 0.85  # the bank contains every test image
    assert main(["evaluate", str(quick_run), "knn", "--data", str(photos / "bag")]) == 2  # images without classes
    assert "no labeled training and test images. It must be a folder with `train` and `val`" in capsys.readouterr().err
    assert main(["evaluate", str(quick_run), "kn"]) == 2
    assert "unknown protocol 'kn'. Did you mean 'knn'?" in capsys.readouterr().err


KEPT = '''
from dataclasses import dataclass
import numpy as np
from ssl_lib import PROTOCOLS
from ssl_lib.evaluation import Metric, Scores

@PROTOCOLS.register("kept")
@dataclass(frozen=True)
class Kept:
    """Saves the features of the evaluated encoder.

    Attributes:
        file: Target file.
    """

    file: str
    measures = (Metric("kept", "kept"),)

    def check(self, bank_labels):
        pass

    def __call__(self, subject):
        np.savez(self.file, subject.features.bank, subject.features.queries)  # the trained encoder comes last
        return Scores({"kept": 0.0})
'''


@pytest.mark.parametrize("size", [[], ["--size", "20"]])
def test_evaluate_and_embed_preprocess_other_images_equally(quick_run, tmp_path, size):
    """Photographs of different sizes, for a run that was trained on arrays without resizing."""
    rng = np.random.default_rng(0)
    for index in range(12):
        folder = tmp_path / "photos" / ("train", "val")[index % 2] / f"class{index // 6}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    (tmp_path / "kept.py").write_text(KEPT)
    changes = [f"imports=[{tmp_path / 'kept.py'}]", f"evaluation.kept.file={tmp_path / 'kept.npz'}"]
    changes += [f"evaluation.image_size={size[1]}"] if size else []
    assert main(["evaluate", str(quick_run), "kept", *changes, "--data", str(tmp_path / "photos")]) == 0
    with np.load(tmp_path / "kept.npz") as evaluated:
        for split, features in zip(("train", "val"), evaluated.values(), strict=True):
            target, photos = tmp_path / f"{split}.npz", tmp_path / "photos" / split
            assert main(["embed", str(quick_run), str(photos), "-o", str(target), "--workers", "0", *size]) == 0
            np.testing.assert_array_equal(EmbeddingTable.load(target).embeddings, features)


def test_embed_preprocesses_images_like_the_evaluation_of_the_run(quick_run, photos, table):
    made, own = EmbeddingTable.load(table), data.fashion_mnist_mini(split="test")
    places = torch.tensor([int(path[-6:-4]) for path in made.paths])
    features, _ = extract_features(load_method(quick_run).encoder, own, indices=places, size=28, batch_size=8)
    np.testing.assert_allclose(made.embeddings, features.numpy(), rtol=1e-4, atol=1e-5)  # different batches
    assert made.classes == ("bag", "boot") and made.root == os.path.realpath(photos)


def test_embed_without_images_uses_images_of_the_run(quick_run, tmp_path, capsys):
    target = tmp_path / "own.npz"
    assert main(["embed", str(quick_run), "-o", str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"6,000 images x {load_method(quick_run).encoder.out_dim}, ")
    drawn = f"{target} 0 -o grid.png --images {quick_run}"
    others = f"duplicates {target}, ssl-lib select {target} -n 100"
    assert captured.out == f"next: ssl-lib nearest {drawn}, ssl-lib {others}\n"
    assert main(["embed", str(quick_run), "-o", str(target)]) == 0
    assert ", nothing new, " in capsys.readouterr().err
    assert main(["embed", str(quick_run / "checkpoints" / "last.pt"), "-o", str(target)]) == 0
    assert f"nearest {drawn}," in capsys.readouterr().out
    own = EmbeddingTable.load(target)
    np.testing.assert_array_equal(own.labels, data.fashion_mnist_mini(split="train").labels)
    assert "--images" in error_of(capsys, "nearest", target, "7", "-o", tmp_path / "grid.png")
    stdout_of(capsys, "nearest", target, "7", "-k", "2", "-o", tmp_path / "grid.png", "--images", quick_run)
    drawn_query = np.asarray(Image.open(tmp_path / "grid.png"))[14:154, 14:154, 0]
    expected = data.fashion_mnist_mini(split="train").read(7)[0].numpy().repeat(5, 0).repeat(5, 1)
    np.testing.assert_array_equal(drawn_query, expected)


def test_embed_accepts_packed_images(quick_run, photos, table, tmp_path, capsys):
    for name, channels in (("gray", "1"), ("color", "3")):
        stdout_of(capsys, "pack", photos, tmp_path / name, "--size", "28", "--channels", channels, "--workers", "0")
    stdout_of(capsys, "embed", quick_run, tmp_path / "gray", "-o", tmp_path / "p.npz")
    made, other = EmbeddingTable.load(tmp_path / "p.npz"), EmbeddingTable.load(table)
    assert made.paths.tolist() == [str(row) for row in range(43)] and made.classes == other.classes
    stdout_of(capsys, "nearest", tmp_path / "p.npz", "3", "-o", tmp_path / "grid.png")
    error = error_of(capsys, "embed", quick_run, tmp_path / "color", "-o", tmp_path / "c.npz")
    assert "the images have 3 channels, the run has 1" in error
    os.rename(tmp_path / "color" / "train", tmp_path / "gray" / "test")
    assert "holds train and test: give" in error_of(
        capsys, "embed", quick_run, tmp_path / "gray", "-o", tmp_path / "c.npz"
    )


def test_embed_errors_name_the_cause(quick_run, photos, tmp_path, capsys):
    target = str(tmp_path / "e.npz")
    broken = tmp_path / "photos"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"torn")
    Image.new("L", (28, 28), 9).save(broken / "b.png")
    assert f"{broken}/a.png cannot be read as an image" in error_of(capsys, "embed", quick_run, broken, "-o", target)
    assert main(["embed", str(quick_run), str(broken), "-o", target, "--skip-unreadable", "--workers", "0"]) == 0
    assert f"1 unreadable image left out:\n  {broken}/a.png" in capsys.readouterr().err
    assert EmbeddingTable.load(target).paths.tolist() == ["b.png"] and EmbeddingTable.load(target).labels is None
    assert "already exists, from another source" in error_of(capsys, "embed", quick_run, photos, "-o", target)
    assert "one folder of images, got a and b" in error_of(capsys, "embed", quick_run, "a", "b", "-o", target)
    assert "nowhere does not exist" in error_of(capsys, "embed", quick_run, tmp_path / "nowhere")
    assert "--size must be at least 1 pixel, got 0" in error_of(capsys, "embed", quick_run, photos, "--size", "0")
    assert "must end in .npz or .parquet" in error_of(capsys, "embed", quick_run, photos, "-o", tmp_path / "e.csv")
    error = error_of(capsys, "embed", quick_run, photos, "data.root=gone", "-o", tmp_path / "n.npz")
    assert f"data.root has no effect on the images of {photos}" in error
    error = error_of(capsys, "embed", quick_run, photos, "-o", photos / "n.npz")
    assert "n.npz is in the folder of the images" in error
    assert "backbone.width cannot be changed" in error_of(capsys, "embed", quick_run, photos, "backbone.width=3")
    assert "unrecognized arguments: --nonsense" in error_of(capsys, "embed", quick_run, photos, "--nonsense")


def test_pictures_of_other_bands_and_of_pages_are_read_as_the_network_read_them(tmp_path, capsys):
    pages = [Image.fromarray(np.full((24, 24), 1100 * (page + 1), np.uint16)) for page in range(3)]
    (tmp_path / "stacks").mkdir()
    pages[0].save(tmp_path / "stacks" / "a.tif", save_all=True, append_images=pages[1:])
    stdout_of(capsys, *short_run(tmp_path, "stacks"), "data.pages=all", "data.range=[0,4095]", "data.depth=16")
    for name, images in (("own.npz", []), ("given.npz", [tmp_path / "stacks", "data.pages=all"])):
        stdout_of(capsys, "embed", tmp_path / "run", *images, "-o", tmp_path / name)
        assert EmbeddingTable.load(tmp_path / name).paths.tolist() == ["a.tif", "a.tif#1", "a.tif#2"]
        stdout_of(capsys, "nearest", tmp_path / name, "2", "-o", tmp_path / "pages.png")
    picture = np.asarray(Image.open(tmp_path / "pages.png"))
    for page in range(3):  # gray squares of 1100 / 4095 and so on
        assert (picture == round(1100 * (page + 1) / 4095 * 255)).all(2).sum() > 5000
    assert main(["duplicates", str(tmp_path / "own.npz")]) == 0
    assert "the images are pages of files, so exact copies are not recognized" in capsys.readouterr().err
    for command in (["duplicates"], ["select", "-n", "1"]):
        error = error_of(capsys, *command, tmp_path / "own.npz", "-o", tmp_path / "list.txt")
        assert "list.txt would name whole files" in error and not (tmp_path / "list.txt").exists()


def test_pictures_of_four_bands_show_the_first_three(tmp_path, capsys):
    (tmp_path / "scenes").mkdir()
    for index, color in enumerate([(200, 20, 30, 9), (20, 200, 30, 99)]):
        np.save(tmp_path / "scenes" / f"{index}.npy", np.full((24, 24, 4), color, np.uint8))
    stdout_of(capsys, *short_run(tmp_path, "scenes"), "data.bands=all", "views.preset=aerial")
    stdout_of(capsys, "embed", tmp_path / "run", tmp_path / "scenes", "-o", tmp_path / "e.npz")
    stdout_of(capsys, "nearest", tmp_path / "e.npz", "0", "-o", tmp_path / "bands.png")
    picture = np.asarray(Image.open(tmp_path / "bands.png"))
    assert all((picture == color).all(2).sum() > 5000 for color in ((200, 20, 30), (20, 200, 30)))


def test_a_pattern_that_leaves_out_no_image_to_embed_is_reported(quick_run, photos, tmp_path, capsys):
    command = ["embed", str(quick_run), str(photos), "-o", str(tmp_path / "e.npz")]
    with pytest.warns(DataWarning, match=f"data.exclude: 'bags' leaves out nothing in {photos}"):
        assert main([*command, "data.exclude=[bags,bag]"]) == 0
    assert not any(name.startswith("bag/") for name in EmbeddingTable.load(tmp_path / "e.npz").paths)


def short_run(folder, images):
    """The command of a run of one update on a folder of images."""
    changes = ["backbone.width=8", "method.hidden_dim=16", "views.size=16", "trainer={batch_size: 2, workers: 0}"]
    settings = ["schedule={epochs: 1}", "evaluation.every_epochs=0", f"run_dir={folder / 'run'}"]
    return ["train", "quickstart", f"data={{name: image_folder, root: {folder / images}}}", *changes, *settings]


def test_mirrored_tables_find_mirrored_copies(quick_run, photos, tmp_path, capsys):
    for name in ("00.png", "02.png", "04.png"):
        image = Image.open(photos / "bag" / name)
        image.save(tmp_path / name)
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / f"mirrored {name}")
    plain, mirrored = tmp_path.parent / "plain.npz", tmp_path.parent / "mirrored.npz"
    stdout_of(capsys, "embed", quick_run, tmp_path, "-o", plain)
    stdout_of(capsys, "embed", quick_run, tmp_path, "-o", mirrored, "--mirrored")
    first, second = EmbeddingTable.load(plain), EmbeddingTable.load(mirrored)
    np.testing.assert_allclose(first.embeddings[:3], second.embeddings[3:], rtol=1e-4, atol=1e-5)
    out = stdout_of(capsys, "duplicates", plain, "--flips", mirrored, "--threshold", "0.99999")
    assert out.count("mirrored  mirrored 0") == 3
    assert "it is not the table of the mirrored images" in error_of(capsys, "duplicates", plain, "--flips", plain)
    assert "already exists, from another source" in error_of(capsys, "embed", quick_run, tmp_path, "-o", mirrored)
