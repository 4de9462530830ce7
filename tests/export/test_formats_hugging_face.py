"""timm and transformers load the Hugging Face hub folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.export import export
from tests.export.helper import OTHER_SIZE, RESNET, TIMM_RESNET, VIT, backbone, batch, skip_without_packages


def test_preprocessor_config_matches_the_evaluation(tmp_path):
    skip_without_packages("huggingface")
    export(backbone(RESNET[0], **RESNET[1]), "huggingface", tmp_path)
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (config["size"], config["crop_size"]) == ({"shortest_edge": 36}, {"height": 32, "width": 32})
    assert (config["image_mean"], config["image_std"], config["resample"]) == ([0.5, 0.4, 0.3], [0.2] * 3, 3)


@pytest.mark.parametrize(("name", "arguments"), [RESNET, OTHER_SIZE, TIMM_RESNET])
def test_timm_loads_and_preprocesses_from_the_hub(name, arguments, tmp_path):
    """The local cache of the hub replaces the hub."""
    skip_without_packages("huggingface")
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
        "with torch.no_grad(): np.savez('output.npz', images=images, features=net(images))"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("RGB" if len(model.mean) == 3 else "L")
    picture.save(tmp_path / "photo.png")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=120)
    output = {key: torch.from_numpy(array) for key, array in np.load(tmp_path / "output.npz").items()}
    step = 1.01 / 255 / model.std[0]  # Pillow and torch may round differently by one of 255 levels
    torch.testing.assert_close(output["images"], model.preprocess(picture), rtol=0, atol=step)
    torch.testing.assert_close(output["features"], model(output["images"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), [RESNET, VIT])
def test_transformers_loads_the_folder(name, arguments, tmp_path):
    skip_without_packages("huggingface")
    model = backbone(name, **arguments)
    export(model, "huggingface", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "num_classes" not in config["model_args"]  # transformers passes num_classes to timm itself
    transformers = pytest.importorskip("transformers")
    images = batch(model)
    with torch.no_grad():
        features = transformers.AutoModel.from_pretrained(tmp_path).eval()(images).pooler_output
    torch.testing.assert_close(features, model(images), rtol=1e-5, atol=1e-5)
