"""Tests of `ssl-lib evaluate`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main
from tests.cli.conftest import error_of, results_of, stdout_of, write_class_folders


def test_evaluate_prints_the_results_of_training_again(run, capsys):
    before = results_of(run)["results"]
    table = stdout_of(capsys, "evaluate", run)
    assert "raw pixels" in table and "random init" in table and "kNN (k=5)" in table
    assert f"{100 * before['trained']['knn']:.1f}" in table
    assert results_of(run)["results"] == before


def test_results_with_changed_settings_are_written_only_to_the_output(run, tmp_path, capsys):
    before = (run / "evaluation.json").read_text()
    command = ["evaluate", str(run / "checkpoints" / "last.pt"), "evaluation.knn.k=7", "evaluation.linear=null"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "kNN (k=7)" in captured.out and "linear" not in captured.out
    note = "note: settings were changed, so evaluation.json is not updated; use --output FILE to keep the results"
    assert note in captured.err
    assert main([*command, "--output", str(tmp_path / "k7.json")]) == 0
    assert (run / "evaluation.json").read_text() == before
    content = json.loads((tmp_path / "k7.json").read_text())
    assert content["protocols"]["knn"]["k"] == 7
    assert [content["run"], *content["changes"]] == command[1:]


def test_later_protocols_are_added_to_the_earlier_results(run):
    before = results_of(run)
    assert main(["evaluate", str(run), "retrieval"]) == 0
    after = results_of(run)
    assert set(after["protocols"]) == {*before["protocols"], "retrieval"}
    for row, values in before["results"].items():
        assert after["results"][row].items() > values.items() and "recall_1" in after["results"][row]
    assert main(["evaluate", str(run), "retrieval"]) == 0
    assert [metric["key"] for metric in results_of(run)["measures"]] == [metric["key"] for metric in after["measures"]]


def test_results_of_earlier_weights_are_replaced(run):
    (run / "evaluation.json").write_text(json.dumps({**results_of(run), "steps": 1}))
    assert main(["evaluate", str(run), "retrieval"]) == 0
    assert set(results_of(run)["protocols"]) == {"retrieval"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["knn", "k=5"], "unknown key 'k'."),
        (["knn", "--data", "./no/folder"], "--data: ./no/folder is neither a folder nor a data set."),
        (["knn", "--data", "fashion_mnst"], "nor a data set. Did you mean 'fashion_mnist"),
        (["knn", "method.temperature=1"], "method.temperature cannot be changed"),
        (["backbone.width=16"], "backbone.width cannot be changed"),
        (["views.size=32"], "set evaluation.image_size"),
        (["evaluation.knn.k=0"], "k must be at least 1"),
    ],
)
def test_evaluate_reports_wrong_arguments(arguments, message, evaluated_run, capsys):
    assert message in error_of(capsys, "evaluate", evaluated_run, *arguments)


def test_evaluate_accepts_fewer_images_than_a_batch(run, tmp_path):
    write_class_folders(tmp_path, splits=("train", "test"), count=3, size=28)
    data = f"data={{name: image_folder, root: {tmp_path}, channels: 1}}"
    assert main(["evaluate", str(run), data, "evaluation={linear: null, knn: {k: 3}}"]) == 0


def test_images_of_data_are_read_like_the_training_images(tmp_path, capsys):
    """12-bit images: with the range of 16 bits, all would be nearly black."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, level in (("dim", 500), ("bright", 3500)):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for index in range(6):
                pixels = rng.integers(level - 400, level + 400, (16, 16)).astype(np.uint16)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{index}.png")
    data = f"data={{name: image_folder, root: {tmp_path / 'images'}, range: [0, 4095], depth: 16, bands: all}}"
    changes = ["backbone.width=8", "method.hidden_dim=16", "views.size=16", "trainer={batch_size: 4, workers: 0}"]
    scores = ["evaluation={knn: {k: 3}, every_epochs: 1}", "schedule={epochs: 1}", f"run_dir={tmp_path / 'run'}"]
    stdout_of(capsys, "train", "quickstart", data, *changes, *scores)
    own = json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]
    output = tmp_path / "e.json"
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "images"), "--output", str(output)]) == 0
    assert json.loads(output.read_text())["results"] == own
    assert "nearly black" not in capsys.readouterr().err
