"""Tests of `TrainedBackbone.from_run` and `from_file`: weights, preprocessing and errors."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import CheckpointError, ConfigError, TrainedBackbone, load_method, load_run
from ssl_lib.cli.main import main
from ssl_lib.data import FolderData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.evaluation import extract_features
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint


def test_default_part_is_the_part_that_is_evaluated(run):
    method = load_method(run)
    images = torch.randn(2, 3, 12, 12)
    teacher, student = method.teacher.parts[0](images), method.backbone(images)
    assert not torch.allclose(teacher, student)
    for part, expected in ((None, teacher), ("teacher", teacher), ("student", student)):
        backbone = TrainedBackbone.from_run(run, part)
        assert backbone.part == (part or "teacher")
        torch.testing.assert_close(backbone(images), expected, rtol=0, atol=0)
        assert (backbone.out_dim, backbone.size) == (expected.shape[1], 12)
        assert not backbone.training and not any(parameter.requires_grad for parameter in backbone.parameters())


def test_features_equal_the_features_of_the_evaluation(run, folder):
    data = FolderData(folder / "val")
    expected, _ = extract_features(load_method(run).encoder, data, size=12, workers=0)
    backbone = TrainedBackbone.from_run(run / "checkpoints" / "last.pt")
    pictures = [Image.open(path) for path in sorted((folder / "val").rglob("*.png"), key=lambda path: str(path))]
    pixels = torch.stack([data.read(index) for index in range(len(data))])
    for images in (pixels, pictures):
        torch.testing.assert_close(backbone(backbone.preprocess(images)), expected, rtol=1e-5, atol=1e-5)
    assert backbone.preprocess(pictures[0]).shape == (1, 3, 12, 12)


def test_images_of_the_input_size_are_not_resized(tmp_path):
    """Arrays are not enlarged and cropped for the evaluation, so neither are the images of a user."""
    run = tmp_path / "run"
    settings = [
        "data=fashion_mnist_mini",
        "schedule={epochs: 0.1}",
        "trainer.workers=0",
        "evaluation.every_epochs=0",
        "backbone.width=8",
        "method.hidden_dim=8",
    ]
    assert main(["train", "quickstart", *settings, f"run_dir={run}"]) == 0
    trained = load_run(run)
    backbone = TrainedBackbone.from_run(run)
    pixels = trained.evaluator.queries.gather(torch.arange(3))
    expected = (pixels.float() / 255 - backbone.mean[0]) / backbone.std[0]
    for images in (pixels, [Image.fromarray(image[0].numpy()) for image in pixels]):
        torch.testing.assert_close(backbone.preprocess(images), expected)
    with pytest.raises(ConfigError, match="simclr has no teacher; available: student"):
        TrainedBackbone.from_run(run, "teacher")


def test_checkpoint_contains_the_preprocessing_and_needs_no_data(run, tmp_path):
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    config = saved["config"].replace(str(run.parent), "/gone")
    save_checkpoint(tmp_path / "new.pt", {**saved, "config": config})
    expected = TrainedBackbone.from_run(run).preprocessing
    assert TrainedBackbone.from_run(tmp_path / "new.pt").preprocessing == expected
    for name, source in (("here", run), ("there", tmp_path / "new.pt")):
        command = ["embed", str(source), str(run.parent / "val"), "-o", str(tmp_path / f"{name}.npz"), "--workers", "0"]
        assert main(command) == 0
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()
    changed = TrainedBackbone.from_run(tmp_path / "new.pt", changes={"evaluation.image_size": 16}).preprocessing
    assert changed == expected.at(16)
    other = {"data.mean": [0.1, 0.2, 0.3], "data.range": [0, 4095]}
    changed = TrainedBackbone.from_run(tmp_path / "new.pt", changes=other).preprocessing
    assert (changed.mean, changed.range, changed.std) == ((0.1, 0.2, 0.3), (0, 4095), expected.std)
    for damaged in ({"size": 12}, None):
        save_checkpoint(tmp_path / "bad.pt", {**saved, "preprocessing": damaged})
        with pytest.raises(CheckpointError, match=r"bad\.pt has no valid preprocessing"):
            TrainedBackbone.from_run(tmp_path / "bad.pt")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.mean": None, "data.std": None}, {}),
        ({"data.mean": [0.1, 0.2, 0.3], "data.std": None}, {"mean": (0.1, 0.2, 0.3)}),
        ({"data": {"name": "image_folder", "root": "/gone", "mean": [0.1, 0.2, 0.3]}}, {"mean": (0.1, 0.2, 0.3)}),
        ({"data": {"name": "image_folder", "root": "/gone", "mean": None}, "data.depth": 16}, {"depth": 16}),
        ({"data": {"name": "image_folder", "root": "/gone", "range": "auto"}, "data.range": [0, 9]}, {"range": (0, 9)}),
        ({"data.root": "/gone", "evaluation.every_epochs": 0}, {}),
    ],
)
def test_preprocessing_with_changes_of_the_data(run, changes, expected):
    own = TrainedBackbone.from_run(run).preprocessing
    assert own.mean == (0.485, 0.456, 0.406)
    assert TrainedBackbone.from_run(run, changes=changes).preprocessing == dataclasses.replace(own, **expected)


def test_a_change_that_does_not_fit_the_preprocessing_is_refused(run):
    for changes in ({"data.mean": [0.5]}, {"data": {"name": "image_folder", "root": "/gone", "mean": [0.5]}}):
        with pytest.raises(ConfigError, match=r"data: .*one mean and std per channel"):
            TrainedBackbone.from_run(run, changes=changes)


def test_evaluation_image_size_can_be_changed(run):
    backbone = TrainedBackbone.from_run(run, changes={"evaluation.image_size": 16})
    assert (backbone.size, backbone.preprocessing.resize) == (16, 18)


def test_pictures_are_rotated_by_their_exif_orientation():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    upright, turned = Image.fromarray(pixels), Image.fromarray(np.rot90(pixels))
    turned.getexif()[274] = 6  # to display, rotate by 90 degrees clockwise
    images = Preprocessing(size=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(images(turned), images(upright))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8).double(), r"must be uint8 \(N, 3, H, W\) or PIL images, got float64 \(2, 3, 8, 8\)"),
        (torch.full((2, 3, 8, 8), 1.5), r"float images must be in \[0, 1\], got 1.5 to 1.5"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got uint8 \(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.uint8), r"got uint8 \(1, 4, 8, 8\)"),
        ([], "at least one PIL image or path, got none"),
        ([1], "got int"),
    ],
)
def test_unsupported_images_raise(images, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(size=8, resize=9, mean=(0.5,) * 3, std=(0.5,) * 3)(images)


def test_safetensors_export_loads_unchanged(run, tmp_path):
    pytest.importorskip("safetensors")
    backbone = TrainedBackbone.from_run(run)
    assert main(["export", str(run), "--to", "safetensors", "-o", str(tmp_path / "a.safetensors")]) == 0
    loaded = TrainedBackbone.from_file(tmp_path / "a.safetensors")
    assert loaded.preprocessing == backbone.preprocessing
    assert {**loaded.metadata, "backbone": None} == {**backbone.metadata, "backbone": None}
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(loaded(images), backbone(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "is not an ssl_lib export"),
        ({"ssl_lib": "[1"}, "is not an ssl_lib export"),
        ({"ssl_lib": "{}"}, "is not an ssl_lib export"),
        ({"backbone": {"name": "resnet_huge", "arguments": {}}}, "unknown backbone 'resnet_huge'"),
        ({"backbone": {"name": "resnet_tiny", "arguments": {"depth": 3}}}, "unknown key .*depth"),
        ({"backbone": {"name": "resnet_tiny", "arguments": {"width": "wide"}}}, "width"),
        ({"preprocessing": {"size": 0, "resize": 0, "mean": [], "std": []}}, "is not an ssl_lib export"),
    ],
)
def test_invalid_header_raises(run, tmp_path, header, message):
    safetensors = pytest.importorskip("safetensors.torch")
    own = {**TrainedBackbone.from_run(run).metadata, **header}
    content = header if not header or "ssl_lib" in header else {"ssl_lib": json.dumps(own)}
    safetensors.save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors", content)
    with pytest.raises(ConfigError, match=message):
        TrainedBackbone.from_file(tmp_path / "a.safetensors")


def test_error_for_a_missing_or_damaged_file_names_it(run, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"not one")
    for path, message in (
        (tmp_path / "nowhere.safetensors", "cannot read .*nowhere.safetensors.*No such file"),
        (run, "cannot read .*model.safetensors.*No such file"),
        (tmp_path / "damaged.safetensors", "cannot read .*damaged.safetensors as a safetensors file"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainedBackbone.from_file(path)
