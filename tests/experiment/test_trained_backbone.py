"""`TrainedBackbone`, and `ssl-lib export`, of runs trained here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import CheckpointError, ConfigError, DataError, TrainedBackbone, load_method, load_run
from ssl_lib.cli.main import main
from ssl_lib.data import FolderData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.evaluation import extract_features
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint

SMALL = ["schedule={epochs: 1}", "optimizer={name: sgd, lr: 0.1}", "views={preset: simclr, size: 12}",
         "trainer={batch_size: 8, workers: 0, device: cpu, precision: fp32}"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of 8 color pictures of 20 x 24, for training and for tests."""
    root = tmp_path_factory.mktemp("pictures")
    for index in range(32):
        path = root / ("train" if index % 2 else "val") / f"class{index // 16}"
        path.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(folder):
    """A teacher and its student, apart from each other, with an evaluation."""
    path = folder / "run"
    settings = [f"data={{name: image_folder, root: {folder}}}", "backbone={name: resnet_tiny, width: 8}",
                "method={name: dino, hidden_dim: 8, num_prototypes: 8, momentum: 0.5}",
                "evaluation={every_epochs: 1, knn: {k: 2}, linear: null}"]  # fmt: skip
    assert main(["train", "quickstart", *SMALL, *settings, f"run_dir={path}"]) == 0
    return path


def test_the_part_is_that_of_the_evaluation_unless_it_is_named(run):
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


def test_features_are_those_of_the_evaluation(run, folder):
    data = FolderData(folder / "val")
    expected, _ = extract_features(load_method(run).encoder, data, size=12, workers=0)
    backbone = TrainedBackbone.from_run(run / "checkpoints" / "last.pt")
    pictures = [Image.open(path) for path in sorted((folder / "val").rglob("*.png"), key=lambda path: str(path))]
    pixels = torch.stack([data.read(index) for index in range(len(data))])
    for images in (pixels, pictures):
        torch.testing.assert_close(backbone(backbone.preprocess(images)), expected, rtol=1e-5, atol=1e-5)
    assert backbone.preprocess(pictures[0]).shape == (1, 3, 12, 12)


def test_images_that_are_in_their_size_stay_as_they_are(tmp_path):
    """Arrays are not enlarged and cropped before they are shown; neither are the pictures of their users."""
    run = tmp_path / "run"
    settings = ["data=fashion_mnist_mini", "schedule={epochs: 0.1}", "trainer.workers=0", "evaluation.every_epochs=0",
                "backbone.width=8", "method.hidden_dim=8"]  # fmt: skip
    assert main(["train", "quickstart", *settings, f"run_dir={run}"]) == 0
    trained = load_run(run)
    backbone = TrainedBackbone.from_run(run)
    pixels = trained.evaluator.queries.gather(torch.arange(3))
    expected = (pixels.float() / 255 - backbone.mean[0]) / backbone.std[0]
    for images in (pixels, [Image.fromarray(image[0].numpy()) for image in pixels]):
        torch.testing.assert_close(backbone.preprocess(images), expected)
    with pytest.raises(ConfigError, match="simclr has no teacher: it has student alone"):
        TrainedBackbone.from_run(run, "teacher")


def test_the_data_are_not_needed(run, tmp_path):
    """A run that was carried to where its images are not; one of a version that noted no pre-processing needs them."""
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    config = saved["config"].replace(str(run.parent), "/gone")
    save_checkpoint(tmp_path / "new.pt", {**saved, "config": config})
    expected = TrainedBackbone.from_run(run).preprocessing
    assert TrainedBackbone.from_run(tmp_path / "new.pt").preprocessing == expected
    for name, source in (("here", run), ("there", tmp_path / "new.pt")):
        command = ["embed", str(source), str(run.parent / "val"), "-o", str(tmp_path / f"{name}.npz"), "--workers", "0"]
        assert main(command) == 0
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()
    older = {key: value for key, value in saved.items() if key != "preprocessing"}
    save_checkpoint(tmp_path / "old.pt", older)
    assert TrainedBackbone.from_run(tmp_path / "old.pt").preprocessing == expected
    save_checkpoint(tmp_path / "old.pt", {**older, "config": config})
    with pytest.raises(DataError, match="/gone"):
        TrainedBackbone.from_run(tmp_path / "old.pt")
    save_checkpoint(tmp_path / "bad.pt", {**saved, "preprocessing": {"size": 12}})
    with pytest.raises(CheckpointError, match=r"bad\.pt holds a pre-processing that cannot be"):
        TrainedBackbone.from_run(tmp_path / "bad.pt")


def test_another_size_of_the_evaluation_is_shown(run):
    backbone = TrainedBackbone.from_run(run, overrides=["evaluation.image_size=16"])
    assert (backbone.size, backbone.preprocessing.resize) == (16, 18)


def test_pictures_stand_upright():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    upright, turned = Image.fromarray(pixels), Image.fromarray(np.rot90(pixels))
    turned.getexif()[274] = 6  # turn by 90 degrees, clockwise, to see it
    images = Preprocessing(size=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(images(turned), images(upright))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"must be uint8 \(N, 3, H, W\), or PIL images; got float32 \(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got uint8 \(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.uint8), r"got uint8 \(1, 4, 8, 8\)"),
        ([], "at least one; got none"),
        (["cat.png"], "got str"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(size=8, resize=9, mean=(0.5,) * 3, std=(0.5,) * 3)(images)


def test_the_command_writes_into_the_run_and_tells_of_the_evaluation(run, capsys):
    assert main(["export", str(run), "--to", "torch_export"]) == 0
    out, error = capsys.readouterr()
    path = run / "export" / "backbone.pt2"
    assert f"teacher of dino after 2 steps: {path}" in error and f'torch.export.load("{path}")' in out
    results = json.loads((run / "evaluation.json").read_text())["results"]
    rows = ("raw pixels", "random init", "trained")
    card = " ".join((run / "export" / "backbone.pt2.md").read_text().split())
    assert "raw pixels random init trained " in card
    assert "kNN (k=2) " + " ".join(f"{100 * results[row]['knn']:.1f} %" for row in rows) in card
    assert main(["export", str(run), "--to", "torch_export", "--part", "student", "-o", str(run / "s.pt2")]) == 0
    assert "None of these weights is known" in (run / "s.pt2.md").read_text()
    assert json.loads((run / "s.pt2.json").read_text())["part"] == "student"


def test_an_evaluation_of_other_weights_is_not_the_exports(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": 1}))
    assert TrainedBackbone.from_run(tmp_path / "run").origin["evaluation"] is None


def test_the_command_refuses_what_it_cannot_do(run, capsys):
    for arguments, message in (
        (["--to", "torchvision"], "torchvision has no network resnet_tiny; formats that fit this backbone: safet"),
        (["--to", "torchscript"], "unknown export format 'torchscript'. Did you mean 'torch_export'?"),
        (["--to", "torch_export", "-o", str(run)], f"{run} is a folder: torch_export writes a file"),
    ):
        assert main(["export", str(run), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_stem_that_the_library_lacks_comes_with_a_note(folder, tmp_path, capsys):
    settings = [f"data={{name: image_folder, root: {folder}}}", "backbone={name: resnet18, stem: small}",
                "method.hidden_dim=8", "evaluation={knn: null, linear: null}"]  # fmt: skip
    assert main(["train", "quickstart", *SMALL, "schedule.epochs=0.5", *settings, f"run_dir={tmp_path}"]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path), "--to", "torchvision"]) == 0
    out, error = capsys.readouterr()
    assert "note: torchvision's own resnet18 has another stem" in error and "net.maxpool = torch.nn.Identity()" in out


def test_a_file_of_ours_is_read_back(run, tmp_path):
    pytest.importorskip("safetensors")
    backbone = TrainedBackbone.from_run(run)
    assert main(["export", str(run), "--to", "safetensors", "-o", str(tmp_path / "a.safetensors")]) == 0
    again = TrainedBackbone.from_file(tmp_path / "a.safetensors")
    assert again.preprocessing == backbone.preprocessing
    assert {**again.metadata, "backbone": None} == {**backbone.metadata, "backbone": None}
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(again(images), backbone(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "is no export of ssl_lib"),
        ({"ssl_lib": "[1"}, "is no export of ssl_lib"),
        ({"ssl_lib": "{}"}, "is no export of ssl_lib"),
        ({"backbone": {"name": "resnet_huge", "arguments": {}}}, "unknown backbone 'resnet_huge'"),
        ({"backbone": {"name": "resnet_tiny", "arguments": {"depth": 3}}}, "unknown key .*depth"),
        ({"backbone": {"name": "resnet_tiny", "arguments": {"width": "wide"}}}, "width"),
        ({"preprocessing": {"size": 0, "resize": 0, "mean": [], "std": []}}, "is no export of ssl_lib"),
    ],
)
def test_a_header_that_is_wrong_is_an_error(run, tmp_path, header, message):
    safetensors = pytest.importorskip("safetensors.torch")
    own = {**TrainedBackbone.from_run(run).metadata, **header}
    content = header if not header or "ssl_lib" in header else {"ssl_lib": json.dumps(own)}
    safetensors.save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors", content)
    with pytest.raises(ConfigError, match=message):
        TrainedBackbone.from_file(tmp_path / "a.safetensors")


def test_what_is_no_file_of_ours_is_named_as_what_it_is(run, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"not one")
    for path, message in (
        (tmp_path / "nowhere.safetensors", "cannot read .*nowhere.safetensors.*No such file"),
        (run, "cannot read .*model.safetensors.*No such file"),
        (tmp_path / "damaged.safetensors", "cannot read .*damaged.safetensors as a safetensors file"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainedBackbone.from_file(path)
