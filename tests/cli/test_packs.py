"""Runs on packed images: files are read as they were packed, in every command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from ssl_lib.embedding import EmbeddingTable
from ssl_lib.experiment.load import load_saved, saved_preprocessing
from tests.cli.conftest import error_of, stdout_of

SETTINGS = {
    "bands": (["data.bands=all", "data.range=[0,4095]"], 4),
    "order": (["data.bands=[3,1]", "data.range=percentile"], 2),
    "gray": (["data.range=[100,900]", "--channels", "1"], 1),
}
CHANGES = [
    *("backbone.width=8", "method.hidden_dim=16", "views.size=16", "trainer={batch_size: 4, workers: 0}"),
    "schedule={epochs: 1}",
    "evaluation={knn: {k: 3, also: []}, linear: null, spectrum: {view_images: 0}, every_epochs: 1}",
]


@pytest.fixture(params=SETTINGS)
def packed(request, tmp_path):
    """A folder of 12-bit images of four bands, or of gray ones; the run that was trained on its pack; and the pack."""
    rng = np.random.default_rng(0)
    settings, channels = SETTINGS[request.param]
    for split, count in (("train", 6), ("test", 4)):
        for name, level in (("dim", 300), ("bright", 3000)):
            (tmp_path / "files" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(level - 200, level + 900, (20, 24, 4)).astype(np.uint16)
                pixels = pixels[..., 0] if request.param == "gray" else pixels
                np.save(tmp_path / "files" / split / name / f"{index}.npy", pixels)
    assert main(["pack", str(tmp_path / "files"), str(tmp_path / "pack"), "--size", "16", *settings]) == 0
    data = f"data={{name: arrays, path: {tmp_path / 'pack'}}}"
    assert main(["train", "quickstart", data, *CHANGES, f"run_dir={tmp_path / 'run'}"]) == 0
    return tmp_path, channels


def embedded(folder, place, name):
    assert main(["embed", str(folder / "run"), str(place), "-o", str(folder / name), "--workers", "0"]) == 0
    return EmbeddingTable.load(folder / name)


@pytest.mark.filterwarnings("ignore:images have . channels")
def test_files_get_the_features_and_results_of_their_pack(packed, tmp_path, capsys):
    folder, channels = packed
    checkpoint, _ = load_saved(folder / "run", None)
    assert saved_preprocessing(checkpoint).channels == channels
    files = embedded(folder, folder / "files" / "train", "files.npz")
    pack = embedded(folder, folder / "pack" / "train", "pack.npz")
    order = [files.paths.tolist().index(f"{name}/{index}.npy") for name in ("bright", "dim") for index in range(6)]
    np.testing.assert_allclose(files.embeddings[order], pack.embeddings, atol=1e-6)
    own = json.loads((folder / "run" / "evaluation.json").read_text())["results"]
    output = folder / "e.json"
    assert main(["evaluate", str(folder / "run"), "--data", str(folder / "files"), "--output", str(output)]) == 0
    for row, values in json.loads(output.read_text())["results"].items():
        assert values == pytest.approx(own[row], rel=1e-5) and values["rankme"] > 3
    assert "packed with another" not in capsys.readouterr().err
    for place, table in ((folder / "files" / "train", "files.npz"), (folder / "pack" / "train", "pack.npz")):
        grid = folder / f"{table}.png"
        stdout_of(capsys, "nearest", folder / table, "3", "--images", place, "-o", grid)
        assert np.asarray(Image.open(grid).convert("L")).std() > 1
    stdout_of(capsys, "nearest", folder / "pack.npz", "3", "--images", folder / "run", "-o", folder / "grid.png")
    first, second = (np.asarray(Image.open(folder / name)) for name in ("grid.png", "pack.npz.png"))
    np.testing.assert_array_equal(first, second)
    gone = error_of(capsys, "nearest", folder / "files.npz", "3", "--images", folder / "run", "-o", folder / "x.png")
    assert "its images are not those of the table, such as bright/0.npy: give the folder, or the run" in gone
