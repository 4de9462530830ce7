"""The report: whole HTML, nothing from the network, figures of the run's files, and a reason for what is missing."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_lib.cli import words
from ssl_lib.cli.main import main
from ssl_lib.data import arrays
from ssl_lib.doctor import diagnose
from ssl_lib.evaluation import extract_features, read_results
from ssl_lib.experiment.load import load_method
from ssl_lib.report.records import read_metrics
from ssl_lib.report.run import Missing
from ssl_lib.training.checkpoint import save_checkpoint
from tests.report.conftest import CLASSES, train
from tests.report.page import Page


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def report(run: Path, *options: str) -> Page:
    target = run.parent / "made.html"
    assert main(["report", str(run), "--map", "pca", "-o", str(target), *options]) == 0
    return read(target)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_the_page_is_whole_and_asks_the_network_for_nothing(page):
    found = read(page)
    names = [name for name, _ in found.elements]
    assert names.count("h1") == names.count("main") == names.count("nav") == names.count("footer") == 1
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for name, attributes in found.elements:
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), (name, attributes)
        assert not any(key.startswith("on") for key in attributes), (name, attributes)
        if name == "a":
            assert attributes["href"].removeprefix("#") in ids
        if name == "img":
            assert attributes["alt"]
        if name == "th":
            assert attributes["scope"] in ("row", "col")
    assert names.count("table") == names.count("caption")
    style = "".join(data for place, data in found.texts if place == "style")
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", style)) and "@import" not in style
    assert page.stat().st_size < 1e6


def test_names_are_text_wherever_they_stand(page):
    found, source = read(page), page.read_text(encoding="utf-8")
    assert [a.get("type") for name, a in found.elements if name == "script"] == ["application/json", None]
    assert source.lower().count("</script>") == 2
    kinds = {name for name, a in found.elements if name == "b" and not a}
    assert "bold & co" not in "".join(data for place, data in found.texts if place == "b"), kinds
    data = json.loads(next(data for place, data in found.texts if place == "script"))
    assert data[0]["names"] == {str(i): name for i, name in enumerate(CLASSES)}
    for name in CLASSES:
        assert any(place == "button" and data == name for place, data in found.texts)
    assert "<b>bold & co" in found.text()


def test_figures_are_those_of_the_files(page, run):
    found = read(page)
    _, results = read_results(run / "evaluation.json")
    expected = [results.measures[0].title, *(f"{100 * results[row]['knn']:.1f} %" for row in results.values)]
    assert expected in found.rows
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert ("output", f"{losses[-1]:.4g}") in found.texts
    charts = found.curves()
    assert any(
        np.allclose(curve["y"], losses, rtol=1e-4)
        for chart in charts
        for curve in chart
        if len(curve["y"]) == len(losses)
    )
    rates = sorted(line["images_per_second"] for line in lines if "images_per_second" in line)
    row = next(row for row in found.rows if row[0] == "<b>bold & co" and len(row) == 4)
    assert float(row[1].replace(",", "")) == pytest.approx(np.median(rates), abs=0.6)


def test_every_protocol_is_read_out(copy):
    protocols = [name for name in words.PROTOCOLS if name != "cluster" or importlib.util.find_spec("sklearn")]
    changes = ["evaluation.finetune={epochs: 2}", "evaluation.lowshot={shares: [0.5], per_class: [1, 5], draws: 2}"]
    changes += [
        "evaluation.retrieval.k=[1, 5]",
        "evaluation.logistic={max_steps: 20}",
        "evaluation.linear={min_steps: 5}",
    ]
    target = copy / "evaluation.json"
    assert main(["evaluate", str(copy), *protocols, *changes, "--output", str(target)]) == 0
    _, results = read_results(target)
    found = report(copy)
    text = found.text()
    accuracies = {name: [] for name in CLASSES}
    for row in found.rows:
        if row[0] in accuracies and len(row) == 4:
            accuracies[row[0]].append(row[1:])
    for number, protocol in enumerate(("knn", "linear", "logistic")):
        kept = [results.details[row][protocol]["class_accuracy"] for row in results.values]
        for label, name in enumerate(CLASSES):
            assert accuracies[name][number] == [f"{100 * each[label]:.1f} %" for each in kept]
    charts = {a["aria-label"].partition(":")[0]: json.loads(a["data-curves"]) for _, a in found.elements
              if "data-curves" in a}  # fmt: skip
    held_out = results.details["trained"]["linear"]["draws"][0]["held_out"]
    curve = charts["held out, %, by learning rate"][-1]
    assert curve["x"] == [float(lr) for lr in held_out]
    assert np.allclose(curve["y"], [100 * share for share in held_out.values()], rtol=1e-4)
    assert charts["loss"][-1]["title"] == "trained" and charts["loss"][-1]["x"] == [1, 2]
    shots = results.details["trained"]["lowshot"]["lowshot_1"]
    singles = ", ".join(f"{100 * draw['accuracy']:.1f}" for draw in shots)
    assert singles in text or len({draw["accuracy"] for draw in shots}) == 1
    counts = [str(results.details[row]["retrieval"]["queries"]) for row in results.values]
    assert ["retrieval: queries", *counts] in found.rows
    assert text.count("Most frequent confusions") == 4 and "nan" not in text


def test_neighbors_are_those_of_the_cosines(page, run, patterns):
    found = read(page)
    data = json.loads(next(data for place, data in found.texts if place == "script"))[0]
    images = arrays(patterns, split="test")
    features, labels = extract_features(load_method(run).encoder, images)
    x = features.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    chosen = np.array(data["neighbors"]["trained"])
    assert np.allclose(np.take_along_axis(cosines, chosen, 1), -np.sort(-cosines, 1)[:, :5], atol=1e-5)
    same = (labels.numpy()[chosen] == labels.numpy()[:, None]).mean()
    assert f"trained {100 * same:.1f} %" in found.text()
    assert data["labels"] == labels.tolist()


def test_the_config_is_marked_where_it_is_not_the_default(page):
    rows = read(page).rows
    assert ["method.projector_layers", "1", "3"] in rows
    assert ["trainer.batch_size", "48", "256"] in rows
    assert not any(row[0] == "method.out_dim" and len(row) == 3 for row in rows)
    assert not any(row[0].startswith("views") and len(row) == 3 and ".size" in row[0] for row in rows)
    assert ["torch", torch.__version__] in rows


def test_a_map_by_umap(copy):
    pytest.importorskip("umap")

    def places():
        found = report(copy, "--map", "umap")
        assert "UMAP of the features of 96 test images" in found.text()
        return [(a["x"], a["y"]) for name, a in found.elements if name == "use" and "data-i" in a]

    first = places()
    assert len(set(first)) > 96 and first == places()


def test_private_images_are_nowhere(run):
    found = report(run, "--no-images")
    style = "".join(data for place, data in found.texts if place == "style")
    assert "data:image" not in style and not any(name == "img" for name, _ in found.elements)
    data = json.loads(next(data for place, data in found.texts if place == "script"))
    assert data[0]["sheet"] is None
    assert "--no-images" in found.text()


def test_a_run_that_was_broken_off_says_how_far_it_came(copy):
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(lines[0])
    for name in ("checkpoints", "evaluation.json"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = report(copy).text()
    assert "Not trained to its end, and not yet evaluated" in text and "1 of 2 steps are done." in text
    assert "too early to tell" in text


def test_numbers_that_are_not_finite_are_marked(copy):
    path = copy / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["loss"], lines[1]["lr"] = float("nan"), float("inf")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 7, "lo')
    found = report(copy)
    assert sum(a.get("class") == "bad" for name, a in found.elements if name == "path") == 2
    assert ("output", "not finite") in found.texts


def test_a_run_that_has_only_begun(copy, tmp_path):
    for name in ("metrics.jsonl", "evaluation.json", "environment.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints")
    found = report(copy)
    text = found.text()
    for reason in (
        "It has only begun",
        "There is no metrics.jsonl",
        "There is no evaluation.json",
        "no environment.json",
        "no metrics.jsonl",
        "no run at",
    ):
        assert reason in text
    assert ["method.projector_layers", "1", "3"] in found.rows
    (copy / "metrics.jsonl").write_text("")
    (copy / "config.yaml").write_text("a: [")
    text = report(copy).text()
    assert "metrics.jsonl is empty" in text and "config.yaml cannot be read" in text


def test_damaged_files_are_named(copy):
    (copy / "metrics.jsonl").write_text('{"step": 0}\n{broken\n{"step": 2}\n')
    (copy / "evaluation.json").write_text("[]")
    (copy / "diagnosis.json").write_text("{}")
    (copy / "environment.json").write_text("7")
    text = report(copy).text()
    for name in (
        "metrics.jsonl is damaged in line 2",
        "evaluation.json cannot be read",
        "diagnosis.json is damaged",
        "environment.json is damaged",
    ):
        assert name in text
    assert isinstance(read_metrics(copy), Missing)


def test_what_the_doctor_found_is_told(copy):
    assert "found nothing wrong" in report(copy).text()
    line = json.loads((copy / "metrics.jsonl").read_text().splitlines()[0])
    lines = [{**line, "step": step, "feature_std": 1e-9} for step in range(60)]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    findings = diagnose(copy).findings
    (copy / "evaluation.json").unlink()
    text = report(copy).text()
    assert f"Something is wrong: {findings[0].name}" in text
    assert findings
    for found in findings:
        told = f"{found.name} since step {found.step}: {found.seen}. Likely: {found.cause}. Cure: {found.cure}."
        assert " ".join(told.split()) in text


def test_weights_that_are_not_finite_are_told(copy):
    path = copy / "checkpoints" / "last.pt"
    saved = torch.load(path, weights_only=True)
    name = next(name for name in saved["method"] if name.startswith("backbone") and name.endswith("weight"))
    saved["method"][name].fill_(float("nan"))
    save_checkpoint(path, saved)
    text = report(copy).text()
    assert "The trained weights turn 96 of 96 images into numbers that are not finite" in text


def test_images_that_moved_are_named_with_an_override(patterns, tmp_path):
    moved = shutil.copytree(patterns, tmp_path / "there")
    train(moved, tmp_path / "run")
    moved.rename(tmp_path / "elsewhere")
    text = report(tmp_path / "run").text()
    assert "could not be looked at" in text and "there" in text
    assert "could not be looked at" not in report(tmp_path / "run", f"data.path={tmp_path / 'elsewhere'}").text()


def test_images_without_labels(patterns, tmp_path):
    np.save(tmp_path / "images.npy", np.load(patterns / "train" / "images.npy", allow_pickle=False))
    train(
        patterns,
        tmp_path / "run",
        f"data={{name: arrays, path: {tmp_path / 'images.npy'}}}",
        "evaluation.every_epochs=0",
    )
    found = report(tmp_path / "run")
    assert "The images have no labels" in found.text() and "96 training images" in found.text()
    assert "Trained, but not yet evaluated" in found.text() and "--data LABELED_IMAGES" in found.text()
    assert sum(name == "use" for name, _ in found.elements) == 2 * 96


def test_a_run_of_a_script_has_no_config(copy):
    (copy / "config.yaml").unlink()
    saved = torch.load(copy / "checkpoints" / "last.pt", weights_only=True)
    shutil.rmtree(copy / "checkpoints")
    save_checkpoint(copy / "checkpoints" / "last.pt", {**saved, "config": None})
    found = report(copy)
    text = found.text()
    assert "trained by a script" in text and text.count("saved by a script, without a config") == 1
    links = {a["href"] for name, a in found.elements if name == "a"}
    assert "#features" in links and not links & {"#spectrum", "#map", "#neighbors", "#views", "#tokens"}


def test_several_runs_stand_side_by_side(run, patterns, tmp_path, capsys):
    other = tmp_path / "other"
    train(patterns, other, "method.temperature=0.5", "seed=3")
    assert main(["report", str(run), str(other)]) == 2
    assert "name a file with -o" in capsys.readouterr().err
    target = tmp_path / "both.html"
    assert main(["report", str(run), str(other), "-o", str(target), "--map", "pca"]) == 0
    found = read(target)
    assert ["method.temperature", "0.1", "0.5"] in found.rows and ["seed", "0", "3"] in found.rows
    scores = [read_results(folder / "evaluation.json")[1]["trained"]["knn"] for folder in (run, other)]
    row = next(row for row in found.rows if row[0].startswith("kNN"))
    assert row[-2:] == [f"{100 * score:.1f} %" for score in scores]
    charts = found.curves()
    assert {curve["title"] for curve in charts[0]} == {"<b>bold & co", "other"}
    style = "".join(data for place, data in found.texts if place == "style")
    assert style.count("data:image") == 1  # the same images are there once


def test_runs_on_other_images_are_told_apart(run, patterns, tmp_path):
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
    found = read(target)
    named = [row for row in found.rows if row[-1].endswith("images") and len(row) == 5]
    assert [(row[0], row[-1]) for row in named] == [
        ("bare", "60 training images"),
        ("<b>bold & co", "96 test images"),
        ("other", "96 test images"),
    ]
    buttons = [a["data-class"] for name, a in found.elements if name == "button" and "data-class" in a]
    assert buttons == ["0", "1", "2", "3"] * 2 and found.text().count("The images have no labels") == 1
    text = found.text()
    assert "one" in text and "bare, 60 training images" in text and "PCA of the features." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run at nowhere: it is no folder"),
        (["."], "no run at .: it holds none of config.yaml"),
        (["RUN", "-o", "."], ". is a folder; give a file"),
    ],
)
def test_what_is_no_run_is_refused(arguments, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_patch_tokens_of_a_vision_transformer(patterns, tmp_path):
    train(patterns, tmp_path / "vit", "backbone={name: vit_micro}")
    found = report(tmp_path / "vit")
    alts = [a["alt"] for name, a in found.elements if name == "img"]
    for kind in ("patch tokens", "attention"):
        assert f"{CLASSES[1]}: {kind}, trained" in alts and f"{CLASSES[1]}: {kind}, random init" in alts
    assert "#tokens" in {a["href"] for name, a in found.elements if name == "a"}


def test_a_network_without_patches_has_no_section_of_them(page):
    assert "tokens" not in {a.get("id") for _, a in read(page).elements}
