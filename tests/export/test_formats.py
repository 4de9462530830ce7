"""Every format is read by the library that it is for, and gives the same features."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ssl_lib import ConfigError, backbones, build, load_config
from ssl_lib.backbones import load_weights
from ssl_lib.export import FORMATS, export
from tests.export.helper import backbone, batch, check, photographs

NEEDS = {
    "timm": ["timm"],
    "safetensors": ["safetensors"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "huggingface": ["safetensors", "timm"],
}
TINY = ("resnet_tiny", {"size": 12, "channels": 1, "width": 8})
VIT = ("vit_micro", {"size": 12, "channels": 1, "image_size": 12, "registers": 2})
OTHER_SIZE = ("vit_micro", {"size": 20, "image_size": 12, "registers": 1})
RESNET = ("resnet18", {"size": 32})
SMALL_STEM = ("resnet18", {"size": 16, "channels": 1, "stem": "small"})
CASES = [
    *(("torchvision", *case) for case in (RESNET, SMALL_STEM)),
    ("torchvision", "mobilenet_v3_small", {"size": 32, "channels": 1}),  # a layer is left of its classifier
    *(("timm", *case) for case in (SMALL_STEM, VIT, OTHER_SIZE)),
    ("timm", "timm/vit_tiny_patch16_224", {"size": 32, "image_size": 32}),
    ("timm", "timm/resnet10t", {"size": 32, "channels": 1}),
    *(("safetensors", *case) for case in (TINY, OTHER_SIZE)),
    *(pytest.param(to, *OTHER_SIZE, marks=pytest.mark.slow) for to in ("onnx", "torch_export")),
    *((to, *TINY) for to in ("onnx", "torch_export")),
    *(("huggingface", *case) for case in (RESNET, VIT, OTHER_SIZE, SMALL_STEM)),
]


def needed(to: str, name: str = "") -> None:
    for package in [*NEEDS.get(to, []), *(["timm"] if name.startswith("timm/") else [])]:
        pytest.importorskip(package)


@pytest.mark.parametrize(("to", "name", "arguments"), CASES, ids=lambda value: str(value)[:30])
def test_the_library_itself_gives_the_same_features(to, name, arguments, tmp_path):
    needed(to, name)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    usage, paths = export(model, to, path), photographs(tmp_path)
    for some in (paths[:1], paths):
        check(usage, model, some)


@pytest.mark.parametrize(("to", "name", "arguments"), [
    ("torchvision", *SMALL_STEM), ("timm", *RESNET), ("safetensors", *TINY), ("onnx", "resnet_tiny", {"size": 12}),
    ("torch_export", *TINY), ("huggingface", *RESNET), ("huggingface", *TINY),
])  # fmt: skip
def test_the_code_of_the_card_runs_beside_the_file(to, name, arguments, tmp_path, monkeypatch):
    needed(to)
    model, path = backbone(name, **arguments), tmp_path / FORMATS[to].file
    export(model, to, path)
    card = (path / "README.md" if path.is_dir() else Path(f"{path}.md")).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    monkeypatch.chdir(tmp_path)
    check(code, model, photographs(tmp_path))


def test_names_of_any_letters_are_written_as_python_has_them(tmp_path):
    model, path = backbone(*TINY[:1], **TINY[1]), tmp_path / 'ein "Bär".pt2'
    check(export(model, "torch_export", path), model, photographs(tmp_path))


def test_a_torchvision_file_lacks_the_classifier_alone(tmp_path):
    export(backbone(*RESNET[:1], **RESNET[1]), "torchvision", tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    keys = torchvision.models.resnet18().load_state_dict(state, strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"} and not keys.unexpected_keys


@pytest.mark.parametrize(
    ("name", "arguments", "to", "fitting"),
    [
        ("resnet_tiny", {"size": 12}, "torchvision", {"safetensors", "onnx", "torch_export", "huggingface"}),
        ("resnet_tiny", {"size": 12}, "timm", {"safetensors", "onnx", "torch_export", "huggingface"}),
        ("vit_micro", {"size": 28}, "torchvision", set(FORMATS) - {"torchvision"}),
        ("shufflenet_v2_x0_5", {"size": 32}, "timm", set(FORMATS) - {"timm"}),
    ],
)
def test_a_format_that_does_not_fit_names_those_that_do(name, arguments, to, fitting, tmp_path):
    with pytest.raises(ConfigError, match=f"{to} has no network .*{name}; formats that fit") as caught:
        export(backbone(name, **arguments), to, tmp_path / "file")
    assert set(str(caught.value).rpartition(": ")[2].split(", ")) == fitting
    assert not list(tmp_path.iterdir())


def test_a_path_of_the_wrong_kind_is_refused(tmp_path):
    model = backbone(*TINY[:1], **TINY[1])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"is a folder: torch_export writes a file, such as .*backbone\.pt2"):
        export(model, "torch_export", tmp_path)
    with pytest.raises(ConfigError, match=r"is a file: huggingface writes a folder"):
        export(model, "huggingface", tmp_path / "file")


@pytest.mark.parametrize(
    ("to", "module", "package"),
    [("safetensors", "safetensors.torch", "safetensors"), ("huggingface", "safetensors.torch", "safetensors"),
     ("onnx", "onnxscript", "onnxscript")],
)  # fmt: skip
def test_a_missing_package_is_named(to, module, package, tmp_path, monkeypatch):
    if to == "onnx":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"needs {package}: pip install {package}"):
        export(backbone(*TINY[:1], **TINY[1]), to, tmp_path / "x")


def test_a_network_that_is_no_graph_is_refused_and_leaves_no_file(tmp_path):
    class Random(torch.nn.Module):
        out_dim = 1

        def forward(self, images):
            return images.flatten(1)[:, :1] if images.sum().item() > 0 else images.flatten(1)[:, 1:2]

    model = backbone(*TINY[:1], **TINY[1])
    model.net = Random()
    with pytest.raises(ConfigError, match=r"torch .* cannot write resnet_tiny as a torch\.export program: "):
        export(model, "torch_export", tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_does_something_else_is_not_written(tmp_path):
    needed("onnx")

    class Noisy(torch.nn.Sequential):
        out_dim = 8

        def forward(self, images):
            features = super().forward(images)
            return features + torch.rand_like(features)

    model = backbone(*TINY[:1], **TINY[1])
    model.net = Noisy(model.net)
    with pytest.raises(ConfigError, match="as an ONNX graph: its features are others, by"):
        export(model, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("depends", [False, True])
def test_the_older_exporter_takes_over_where_the_newer_one_fails(depends, tmp_path, monkeypatch):
    """But not for a network that makes choices, of which it would keep one."""
    needed("onnx")
    newer = torch.onnx.export

    def fails(*arguments, dynamo, **options):
        if dynamo:
            raise AttributeError("'tuple' object has no attribute 'dtype'")
        return newer(*arguments, dynamo=dynamo, **options)

    class Chooses(torch.nn.Sequential):
        out_dim = 8

        def forward(self, images):
            features = super().forward(images)
            return features if images.sum().item() > 0 else -features

    monkeypatch.setattr(torch.onnx, "export", fails)
    model = backbone(*TINY[:1], **TINY[1])
    if not depends:
        check(export(model, "onnx", tmp_path / "a.onnx"), model, photographs(tmp_path))
        return
    model.net = Chooses(model.net)
    with pytest.raises(ConfigError, match="cannot write resnet_tiny as an ONNX graph"):
        export(model, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


METADATA = {
    "torch_export": lambda path: _extra_file(path),
    "safetensors": lambda path: backbones.weights.read_header(path)["ssl_lib"],
    "onnx": lambda path: _onnx_metadata(path),
    "huggingface": lambda path: json.dumps(json.loads((path / "config.json").read_text())["ssl_lib"]),
    "torchvision": lambda path: (path.parent / f"{path.name}.json").read_text(),
    "timm": lambda path: (path.parent / f"{path.name}.json").read_text(),
}


def _extra_file(path: Path) -> str:
    files = {"ssl_lib.json": ""}
    torch.export.load(path, extra_files=files)
    return files["ssl_lib.json"]


def _onnx_metadata(path: Path) -> str:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    assert [value.shape[1:] for value in session.get_inputs()] == [[1, 12, 12]]
    assert isinstance(session.get_inputs()[0].shape[0], str)  # any number of images
    return session.get_modelmeta().custom_metadata_map["ssl_lib"]


@pytest.mark.parametrize("to", FORMATS)
def test_every_export_says_what_it_is_and_what_it_takes(to, tmp_path):
    needed(to)
    assert METADATA.keys() == FORMATS.keys()
    name, arguments = {"torchvision": SMALL_STEM, "timm": VIT}.get(to, TINY)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    export(model, to, path)
    found = json.loads(METADATA[to](path))
    images, size = found["preprocessing"], arguments["size"]
    assert (images["size"], images["resize"], images["channels"], images["interpolation"]) == (
        size, size + 4, 1, "bicubic"
    )  # fmt: skip
    assert (images["mean"], images["std"]) == ([0.5], [0.2])
    assert found["backbone"] == {"name": name, "arguments": model.arguments}
    assert (found["out_dim"], found["method"], found["steps"]) == (model.net.out_dim, "simclr", 7)
    assert found["part"] == "student" and found["ssl_lib"] and found["license"] is None
    card = (path / "README.md" if path.is_dir() else Path(f"{path}.md")).read_text()
    assert name in card and str(tmp_path) not in card


def test_the_hub_folder_says_to_transformers_what_the_evaluation_does(tmp_path):
    needed("huggingface")
    model = backbone(*RESNET[:1], **RESNET[1])
    export(model, "huggingface", tmp_path)
    found = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (found["size"], found["crop_size"]) == ({"shortest_edge": 36}, {"height": 32, "width": 32})
    assert (found["image_mean"], found["image_std"], found["resample"]) == ([0.5, 0.4, 0.3], [0.2] * 3, 3)


@pytest.mark.parametrize(("name", "arguments"), [RESNET, OTHER_SIZE, ("timm/resnet10t", {"size": 32, "channels": 1})])
def test_timm_reads_the_folder_from_the_hub_and_makes_images_ready(name, arguments, tmp_path):
    """The hub's own cache stands in for the hub."""
    needed("huggingface")
    model = backbone(name, **arguments)
    repository = tmp_path / "hub" / "models--you--photos"
    export(model, "huggingface", repository / "snapshots" / "1234")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1234")
    script = (
        "import numpy as np, timm, torch; from PIL import Image\n"
        "net = timm.create_model('hf-hub:you/photos', pretrained=True).eval()\n"
        "prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(net))\n"
        "images = prepare(Image.open('photo.png'))[None]\n"
        "with torch.no_grad(): np.savez('made.npz', images=images, features=net(images))"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("RGB" if len(model.mean) == 3 else "L")
    picture.save(tmp_path / "photo.png")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=120)
    made = {key: torch.from_numpy(array) for key, array in np.load(tmp_path / "made.npz").items()}
    step = 1.01 / 255 / model.std[0]  # Pillow and torch round alike but for one of 255 steps
    torch.testing.assert_close(made["images"], model.preprocess(picture), rtol=0, atol=step)
    torch.testing.assert_close(made["features"], model(made["images"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), [RESNET, VIT])
def test_transformers_reads_the_folder(name, arguments, tmp_path):
    needed("huggingface")
    model = backbone(name, **arguments)
    export(model, "huggingface", tmp_path)
    assert "num_classes" not in json.loads((tmp_path / "config.json").read_text())["model_args"]  # given to timm twice
    transformers = pytest.importorskip("transformers")
    images = batch(model)
    with torch.no_grad():
        features = transformers.AutoModel.from_pretrained(tmp_path).eval()(images).pooler_output
    torch.testing.assert_close(features, model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("to", "name", "arguments"),
    [("safetensors", *TINY), ("torchvision", *SMALL_STEM), ("timm", *SMALL_STEM), ("timm", *VIT),
     ("timm", "timm/resnet10t", {"size": 32, "channels": 1})],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_another_run_starts_from_an_export(to, name, arguments, tmp_path):
    needed(to, name)
    model = backbone(name, **arguments)
    path = tmp_path / FORMATS[to].file
    export(model, to, path)
    if name.startswith("timm/"):  # its own builder takes no file
        fresh = backbones.timm_backbone("resnet10t", in_channels=1)
        load_weights(fresh, str(path))
    else:
        config = tmp_path / "warm.yaml"
        part = {"name": name, **model.arguments, "weights": str(path)}
        content = {
            "data": "fashion_mnist_mini",
            "backbone": part,
            "method": {"name": "simclr", "hidden_dim": 8},
            "views": {"preset": "simclr", "size": model.size},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "trainer": {"batch_size": 8, "device": "cpu"},
            "evaluation": {"knn": None, "linear": None},
            "run_dir": str(tmp_path / "run"),
        }
        config.write_text(json.dumps(content))
        fresh = build(load_config(config)).method.backbone.eval()
    images = batch(model)
    torch.testing.assert_close(fresh.eval()(images), model(images), rtol=1e-5, atol=1e-5)


def test_timms_positions_of_registers_are_kept(tmp_path):
    """A transformer that timm trained, with registers that have positions."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"embed_dim": 128, "depth": 4, "num_heads": 2, "patch_size": 4, "img_size": 12, "reg_tokens": 3}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, **options).eval()
    assert theirs.pos_embed.shape[1] == 1 + 3 + 9
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = backbones.vit_micro(image_size=12, registers=3, weights=str(tmp_path / "timm.pth")).eval()
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64])
def test_a_damaged_safetensors_file_is_named(content, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*damaged\.safetensors"):
        backbones.resnet_tiny(weights=str(path))
