"""Tests of feature extraction, the `Evaluator` and its results."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from ssl_lib import DataError, Evaluator
from ssl_lib.data import ArrayData, FolderData
from ssl_lib.evaluation import (
    KNN,
    Linear,
    LowShot,
    Metric,
    RawPixels,
    Results,
    Retrieval,
    Scores,
    Spectrum,
    extract_features,
    write_results,
)
from ssl_lib.utils.precision import float32_products
from tests.conftest import TinyBackbone


def test_features_equal_forward_pass_in_eval_mode(images):
    encoder = TinyBackbone().train()
    encoder[1].eval()  # a frozen norm must stay frozen
    features, labels = extract_features(encoder, images, batch_size=40)
    assert encoder.training and not encoder[1].training
    encoder.eval()
    x = (images.gather(torch.arange(96)).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(features, encoder(x).detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(labels, images.labels)


def test_raw_pixels_flatten_images_and_downsample_to_32():
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(RawPixels()(x), x.flatten(1))
    assert RawPixels()(torch.rand(2, 3, 64, 48)).shape == (2, 3 * 32 * 32)


@pytest.mark.parametrize("protocol", [KNN(k=12, also=()), Retrieval(k=(12,)), LowShot(shares=(), per_class=(6,))])
def test_too_few_readable_images_raise_with_number_of_skipped_images(protocol, tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.new("L", (8, 8), 20 * number + 100 * (label == "a")).save(tmp_path / label / f"{number}.png")
    whole = FolderData(tmp_path, channels=1)
    assert Evaluator(whole, whole, [protocol], random_encoder=TinyBackbone(), size=8)(TinyBackbone())["trained"]
    (tmp_path / "b" / "3.png").write_bytes(b"broken")
    broken = FolderData(tmp_path, channels=1, on_error="skip")
    evaluator = Evaluator(broken, broken, [protocol], random_encoder=TinyBackbone(), size=8)
    with pytest.raises(DataError, match=r"evaluation\.\w+, raw pixels: .*; unreadable training images skipped: 1"):
        evaluator(TinyBackbone())


def test_image_shape_that_the_backbone_does_not_accept_raises(images):
    color = ArrayData(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 2, (), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match=r"does not accept images of 3 x 8 x 8 \(channels, height, width\)"):
        Evaluator(color, color, [KNN(k=2)], random_encoder=TinyBackbone(), size=8)


def test_evaluator_scores_three_rows_and_separates_good_from_random(images):
    class ByPattern(torch.nn.Module):
        """A perfect encoder: the correlation with the mean image of each class."""

        def forward(self, x):
            x = x.flatten(1)
            means = torch.stack([x[label::4].mean(0) for label in range(4)])
            return (x - x.mean(0)) @ (means - means.mean(0)).T

    torch.manual_seed(0)
    evaluator = Evaluator(images, images, [KNN(k=5), Linear()], random_encoder=TinyBackbone())
    results = evaluator(ByPattern())
    assert list(results.values) == ["raw pixels", "random init", "trained"]
    assert results["trained"]["knn"] == 1.0
    assert results["trained"]["linear"] == 1.0
    assert results["random init"]["knn"] < 1.0
    head, _, *lines = results.table().splitlines()
    assert head.split() == ["raw", "pixels", "random", "init", "trained"]
    assert [line.split("  ")[0] for line in lines] == ["kNN (k=5)", "kNN (k=10)", "linear"]
    assert lines[-1].endswith("100.0 %")
    assert [line.split("  ")[0] for line in results.table(every=False).splitlines()[2:]] == ["kNN (k=5)", "linear"]


def test_evaluating_twice_gives_equal_results(images):
    evaluator = Evaluator(images, images, [KNN(), Linear(labels_per_class=5, draws=2)], random_encoder=TinyBackbone())
    encoder = TinyBackbone()
    assert evaluator(encoder) == evaluator(encoder)


def test_evaluation_during_tf32_training_uses_full_float32(images):
    precisions = []

    class Recorder:
        measures = ()

        def check(self, bank_labels):
            pass

        def __call__(self, subject):
            precisions.append(torch.get_float32_matmul_precision())
            return Scores({})

    before = torch.get_float32_matmul_precision()
    with float32_products("high"):
        Evaluator(images, images, [Recorder()], random_encoder=TinyBackbone())(TinyBackbone())
        assert torch.get_float32_matmul_precision() == "high"
    assert precisions == ["highest"] * 3 and torch.get_float32_matmul_precision() == before


def test_missing_labels_raise(images):
    unlabeled = ArrayData(images.gather(torch.arange(96)))
    with pytest.raises(ValueError, match="needs labels"):
        Evaluator(unlabeled, images, [KNN()], random_encoder=TinyBackbone())


def test_duplicate_metrics_of_protocols_raise(images):
    with pytest.raises(ValueError, match="several protocols return the metric knn, knn_10"):
        Evaluator(images, images, [KNN(also=(10,)), KNN(k=5, also=(10,))], random_encoder=TinyBackbone())


def test_settings_are_grouped_by_protocol_name(images):
    evaluator = Evaluator(images, images, [Spectrum(views=3), KNN(k=5)], random_encoder=TinyBackbone())
    assert list(evaluator.settings["protocols"]) == ["spectrum", "knn"]
    assert evaluator.settings["protocols"]["spectrum"]["views"] == 3
    assert evaluator.settings["classes"] == ["a", "b", "c", "d"]


def test_tables_use_the_digits_of_each_metric():
    measures = (Metric("std", "std", percent=False, digits=4), Metric("rank", "rank", percent=False))
    table = Results(measures, {"trained": {"std": 0.02216, "std_std": 0.001, "rank": 31.26}}, {}).table()
    assert [line.split() for line in table.splitlines()[2:]] == [["std", "0.0222", "+-", "0.0010"], ["rank", "31.3"]]


def test_lists_of_numbers_take_one_line_in_the_file(images, tmp_path):
    evaluator = Evaluator(images, images, [KNN(k=5)], random_encoder=TinyBackbone())
    details = {"trained": {"knn": {"confusion": [[1, 2], [3, 4]], "names": ["a,  [b", "]"]}}}
    results = Results((), {"trained": {}}, details)
    write_results(tmp_path / "results.json", evaluator, results, steps=1)
    text = (tmp_path / "results.json").read_text()
    assert "[1, 2]," in text
    assert json.loads(text)["details"] == details


def test_a_protocol_that_fails_is_named(images):
    class Fails(KNN):
        def __call__(self, subject):
            raise ValueError("no neighbors")

    evaluator = Evaluator(images, images, [Fails()], random_encoder=TinyBackbone())
    with pytest.raises(DataError, match=r"evaluation\.Fails, raw pixels: no neighbors"):
        evaluator(TinyBackbone())


def test_limited_evaluator_equals_one_with_a_limit_and_leaves_the_other(images):
    protocol, random = KNN(k=3, also=()), TinyBackbone()
    whole = Evaluator(images, images, [protocol], random_encoder=random)
    part, encoder = whole.limited(20), TinyBackbone()
    assert part(encoder) == Evaluator(images, images, [protocol], random_encoder=random, limit=20)(encoder)
    assert whole.settings["images"]["bank"] == 96 and part.settings["images"]["bank"] == 20
    with pytest.raises(ValueError, match="k"):
        whole.limited(2)
