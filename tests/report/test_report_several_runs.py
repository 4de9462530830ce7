"""The report of several runs."""

from __future__ import annotations

import json
import shutil

import numpy as np

from ssl_lib.cli.main import main
from ssl_lib.evaluation import read_results
from tests.report.conftest import train
from tests.report.page import read_page


def test_two_runs_are_compared_side_by_side(run, patterns, tmp_path, capsys):
    other = tmp_path / "other"
    train(patterns, other, "method.temperature=0.5", "seed=3")
    assert main(["report", str(run), str(other)]) == 2
    assert "needs an output file: add -o FILE" in capsys.readouterr().err
    target = tmp_path / "both.html"
    assert main(["report", str(run), str(other), "-o", str(target), "--map", "pca"]) == 0
    parsed = read_page(target)
    assert ["method.temperature", "0.1", "0.5"] in parsed.rows and ["seed", "0", "3"] in parsed.rows
    scores = [read_results(folder / "evaluation.json")[1]["trained"]["knn"] for folder in (run, other)]
    row = next(row for row in parsed.rows if row[0].startswith("kNN"))
    assert row[-2:] == [f"{100 * score:.1f} %" for score in scores]
    charts = parsed.curves()
    assert {curve["title"] for curve in charts[0]} == {"<b>bold & co", "other"}
    style = "".join(parsed.texts_in("style"))
    assert style.count("data:image") == 1  # the shared images are included once


def test_runs_on_different_images_name_their_images(run, patterns, tmp_path):
    np.save(tmp_path / "images.npy", np.load(patterns / "train" / "images.npy", allow_pickle=False)[:60])
    bare = f"data={{name: arrays, path: {tmp_path / 'images.npy'}}}"
    train(patterns, tmp_path / "bare", bare, "evaluation.every_epochs=0")
    shutil.copytree(patterns, tmp_path / "renamed")
    for part in ("train", "test"):
        (tmp_path / "renamed" / part / "classes.json").write_text(json.dumps(["one", "two", "three", "four"]))
    train(tmp_path / "renamed", tmp_path / "other")
    target = tmp_path / "all.html"
    folders = [str(tmp_path / "bare"), str(run), str(tmp_path / "other")]
    assert main(["report", *folders, "-o", str(target), "--map", "pca"]) == 0
    parsed = read_page(target)
    named = [row for row in parsed.rows if row[-1].endswith("images") and len(row) == 5]
    assert [(row[0], row[-1]) for row in named] == [
        ("bare", "60 training images"),
        ("<b>bold & co", "96 test images"),
        ("other", "96 test images"),
    ]
    buttons = [a["data-class"] for name, a in parsed.elements if name == "button" and "data-class" in a]
    assert buttons == ["0", "1", "2", "3"] * 2 and parsed.text().count("The images have no labels") == 1
    text = parsed.text()
    assert "one" in text and "bare, 60 training images" in text and "PCA of the features." in text
