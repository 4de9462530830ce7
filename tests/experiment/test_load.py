"""Tests of `load_method`, and of runs that are repeated from their config.yaml."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import load_method
from ssl_lib.cli.main import main
from ssl_lib.data.base import DataWarning
from ssl_lib.experiment.load import load_run
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from tests.experiment.conftest import SMALL


def test_load_method_needs_no_data_and_returns_eval_mode(run, tmp_path):
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    save_checkpoint(tmp_path / "moved.pt", {**saved, "config": saved["config"].replace(str(run.parent), "/gone")})
    method = load_method(tmp_path / "moved.pt")
    assert not method.training
    assert method.encoder(torch.zeros(2, 3, 12, 12)).shape == (2, method.encoder.out_dim)
    assert all(torch.equal(value, saved["method"][key]) for key, value in method.state_dict().items())


def test_config_of_a_run_repeats_it_with_the_mean_and_std_of_its_bands(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "scenes").mkdir()
    for index in range(40):  # more images than the sample from which mean and std are computed
        np.save(tmp_path / "scenes" / f"{index:02}.npy", rng.integers(0, 40 + index, (16, 16, 4), dtype=np.uint8))
    data = f"data={{name: image_folder, root: {tmp_path / 'scenes'}, bands: all}}"
    settings = [
        "backbone.width=8",
        "method.hidden_dim=8",
        "views={preset: aerial, size: 12}",
        "evaluation.every_epochs=0",
    ]
    assert main(["train", "quickstart", *SMALL, *settings, data, f"run_dir={tmp_path / 'run'}"]) == 0
    shutil.move(tmp_path / "scenes", tmp_path / "moved")
    config, moved = str(tmp_path / "run" / "config.yaml"), f"data.root={tmp_path / 'moved'}"
    assert main(["train", config, moved, f"run_dir={tmp_path / 'again'}"]) == 0
    first, second = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("run", "again"))
    assert first["preprocessing"] == second["preprocessing"] and len(set(first["preprocessing"]["mean"])) == 4
    assert all(torch.equal(value, second["method"][key]) for key, value in first["method"].items())


def test_evaluation_after_images_were_added_says_that_the_hold_out_may_have_been_trained_on(tmp_path, recwarn):
    rng = np.random.default_rng(0)
    for name in [f"{label}/{index}.png" for label in "ab" for index in range(20)]:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "root" / name)
    data = f"data={{name: image_folder, root: {tmp_path / 'root'}}}"
    settings = [
        "backbone.width=8",
        "method.hidden_dim=8",
        "views={preset: aerial, size: 12}",
        "evaluation.every_epochs=0",
    ]
    run = tmp_path / "run"
    assert main(["train", "quickstart", *SMALL, *settings, data, f"run_dir={run}"]) == 0
    recwarn.clear()
    before = load_run(run, protocols=["knn"])
    assert before.evaluator is not None and not [w for w in recwarn if "changed since" in str(w.message)]
    shutil.copy(tmp_path / "root/a/1.png", tmp_path / "root/a/0 new.png")
    with pytest.warns(DataWarning, match=r"changed since the run \(36 then, 37 now\).* data\.test_root"):
        load_run(run, protocols=["knn"])
    load_run(run, protocols=None)  # no evaluation, no hold-out
    shutil.copytree(tmp_path / "root", tmp_path / "test")
    recwarn.clear()
    load_run(run, {"data.test_root": str(tmp_path / "test")}, protocols=["knn"])
    assert not [w for w in recwarn if "changed since" in str(w.message)]
