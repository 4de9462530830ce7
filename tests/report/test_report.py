"""The HTML page: valid, self-contained and escaped, with the values of the run's files."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
import torch

from ssl_lib.cli.main import main
from ssl_lib.data import arrays
from ssl_lib.evaluation import extract_features, read_results
from ssl_lib.experiment.load import load_method
from tests.report.conftest import CLASSES, train
from tests.report.page import read_page, report_page

PROTOCOLS = ("cluster", "finetune", "knn", "linear", "logistic", "lowshot", "retrieval", "spectrum")


def test_page_is_valid_and_self_contained(page):
    parsed = read_page(page)
    names = [name for name, _ in parsed.elements]
    assert names.count("h1") == names.count("main") == names.count("nav") == names.count("footer") == 1
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for name, attributes in parsed.elements:
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
    style = "".join(parsed.texts_in("style"))
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", style)) and "@import" not in style
    assert page.stat().st_size < 1e6


def test_names_are_escaped_everywhere(page):
    parsed, source = read_page(page), page.read_text(encoding="utf-8")
    assert [a.get("type") for name, a in parsed.elements if name == "script"] == ["application/json", None]
    assert source.lower().count("</script>") == 2
    kinds = {name for name, a in parsed.elements if name == "b" and not a}
    assert "bold & co" not in "".join(parsed.texts_in("b")), kinds
    data = json.loads(parsed.texts_in("script")[0])
    assert data["0"]["names"] == {str(i): name for i, name in enumerate(CLASSES)}
    for name in CLASSES:
        assert name in parsed.texts_in("button")
    assert "<b>bold & co" in parsed.text()


def test_values_match_the_files_of_the_run(page, run):
    parsed = read_page(page)
    _, results = read_results(run / "evaluation.json")
    expected = [results.measures[0].title, *(f"{100 * results[row]['knn']:.1f} %" for row in results.values)]
    assert expected in parsed.rows
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert ("output", f"{losses[-1]:.4g}") in parsed.texts
    charts = parsed.curves()
    assert any(
        np.allclose(curve["y"], losses, rtol=1e-4)
        for chart in charts
        for curve in chart
        if len(curve["y"]) == len(losses)
    )
    rates = sorted(line["images_per_second"] for line in lines if "images_per_second" in line)
    row = next(row for row in parsed.rows if row[0] == "<b>bold & co" and len(row) == 4)
    assert float(row[1].replace(",", "")) == pytest.approx(np.median(rates), abs=0.6)


def test_details_of_every_protocol_are_shown(copy):
    protocols = [name for name in PROTOCOLS if name != "cluster" or importlib.util.find_spec("sklearn")]
    changes = ["evaluation.finetune={epochs: 2}", "evaluation.lowshot={shares: [0.5], per_class: [1, 5], draws: 2}"]
    changes += [
        "evaluation.retrieval.k=[1, 5]",
        "evaluation.logistic={max_steps: 20}",
        "evaluation.linear={min_steps: 5}",
    ]
    target = copy / "evaluation.json"
    assert main(["evaluate", str(copy), *protocols, *changes, "--output", str(target)]) == 0
    _, results = read_results(target)
    parsed = report_page(copy)
    text = parsed.text()
    accuracies = {name: [] for name in CLASSES}
    for row in parsed.rows:
        if row[0] in accuracies and len(row) == 4:
            accuracies[row[0]].append(row[1:])
    for number, protocol in enumerate(("knn", "linear", "logistic")):
        kept = [results.details[row][protocol]["class_accuracy"] for row in results.values]
        for label, name in enumerate(CLASSES):
            assert accuracies[name][number] == [f"{100 * each[label]:.1f} %" for each in kept]
    charts = {
        attributes["aria-label"].partition(":")[0]: json.loads(attributes["data-curves"])
        for _, attributes in parsed.elements
        if "data-curves" in attributes
    }
    held_out = results.details["trained"]["linear"]["draws"][0]["held_out"]
    curve = charts["held out (%) by learning rate"][-1]
    assert curve["x"] == [float(lr) for lr in held_out]
    assert np.allclose(curve["y"], [100 * value for value in held_out.values()], rtol=1e-4)
    loss = charts["loss by epoch"][-1]
    assert loss["title"] == "trained" and loss["x"] == [1, 2]
    shots = results.details["trained"]["lowshot"]["lowshot_1"]
    singles = ", ".join(f"{100 * draw['accuracy']:.1f}" for draw in shots)
    assert singles in text or len({draw["accuracy"] for draw in shots}) == 1
    counts = [str(results.details[row]["retrieval"]["queries"]) for row in results.values]
    assert ["retrieval: queries", *counts] in parsed.rows
    assert text.count("Most frequent confusions") == 4 and "nan" not in text


def test_neighbors_have_the_highest_cosine_similarities(page, run, patterns):
    parsed = read_page(page)
    data = json.loads(parsed.texts_in("script")[0])["0"]
    images = arrays(patterns, split="test")
    features, labels = extract_features(load_method(run).encoder, images)
    x = features.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    chosen = np.array(data["neighbors"]["trained"])
    assert np.allclose(np.take_along_axis(cosines, chosen, 1), -np.sort(-cosines, 1)[:, :5], atol=1e-5)
    same = (labels.numpy()[chosen] == labels.numpy()[:, None]).mean()
    assert f"trained {100 * same:.1f} %" in parsed.text()
    assert data["labels"] == labels.tolist()


def test_settings_that_differ_from_defaults_are_listed(page):
    rows = read_page(page).rows
    assert ["method.projector_layers", "1", "3"] in rows
    assert ["trainer.batch_size", "48", "256"] in rows
    assert not any(row[0] == "method.out_dim" and len(row) == 3 for row in rows)
    assert not any(row[0].startswith("views") and len(row) == 3 and ".size" in row[0] for row in rows)
    assert ["torch", torch.__version__] in rows


def test_umap_projection_is_deterministic(copy):
    pytest.importorskip("umap")

    def positions():
        parsed = report_page(copy, "--map", "umap")
        assert "UMAP of the features of 96 test images" in parsed.text()
        return [(a["x"], a["y"]) for name, a in parsed.elements if name == "use" and "data-i" in a]

    first = positions()
    assert len(set(first)) > 96 and first == positions()


def test_no_images_option_omits_all_images(run):
    parsed = report_page(run, "--no-images")
    style = "".join(parsed.texts_in("style"))
    assert "data:image" not in style and not any(name == "img" for name, _ in parsed.elements)
    data = json.loads(parsed.texts_in("script")[0])
    assert data["0"]["sheet"] is None
    assert "--no-images" in parsed.text()


def test_vision_transformer_has_patch_tokens_and_attention_maps(patterns, tmp_path):
    train(patterns, tmp_path / "vit", "backbone={name: vit_micro}")
    parsed = report_page(tmp_path / "vit")
    alts = [a["alt"] for name, a in parsed.elements if name == "img"]
    for kind in ("patch tokens", "attention"):
        assert f"{CLASSES[1]}: {kind}, trained" in alts and f"{CLASSES[1]}: {kind}, random init" in alts
    assert "#tokens" in {a["href"] for name, a in parsed.elements if name == "a"}


def test_network_without_patch_tokens_has_no_token_section(page):
    assert "tokens" not in {a.get("id") for _, a in read_page(page).elements}
