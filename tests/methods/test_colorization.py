"""Inputs, class weights and refusals of colorization."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lib import ConfigError, Loader, Progress, Schedule, Trainer, ViewPipeline, Views, build
from ssl_lib.config.load import parse_config
from ssl_lib.data import ArrayData
from ssl_lib.views.lab import rgb_to_lab
from tests.conftest import TinyBackbone, pattern_images, small_method, small_views

START = Progress(step=0, total_steps=100, steps_per_epoch=10)


class Recorder(TinyBackbone):
    """A backbone that keeps its inputs."""

    def forward(self, images):
        self.inputs = images
        return super().forward(images)


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - 0.5) / 0.25


@pytest.mark.parametrize("channels", [1, 3])
def test_backbone_sees_the_lightness_in_all_its_channels(channels):
    method = small_method("colorization", Recorder(channels))
    pixels = torch.rand(4, 3, 16, 16)
    method(Views((normalized(pixels),)), START)
    expected = normalized(rgb_to_lab(pixels)[:, :1] / 100).expand(-1, channels, -1, -1)
    torch.testing.assert_close(method.backbone.inputs, expected)


def test_colors_do_not_reach_the_backbone():
    method = small_method("colorization", Recorder(3))
    red, green = torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16)
    luminance = 0.212671 * ((0.8 + 0.055) / 1.055) ** 2.4  # of the red; the green below has the same
    red[:, 0], green[:, 1] = 0.8, 1.055 * (luminance / 0.715160) ** (1 / 2.4) - 0.055
    inputs = []
    for pixels in (red, green):
        method(Views((normalized(pixels),)), START)
        inputs.append(method.backbone.inputs)
    torch.testing.assert_close(*inputs, rtol=0, atol=1e-5)


def test_classes_are_counted_over_all_images_before_the_first_epoch_alone():
    method, pixels = small_method("colorization"), torch.rand(6, 3, 16, 16)
    encoded = []

    def encode(network):
        encoded.append(network(normalized(pixels)))
        return encoded[-1]

    method.before_epoch(Progress(20, 100, 10), encode)
    assert not encoded and (method.loss.weights == 1).all()
    method.before_epoch(START, encode)
    targets, _ = method.classes.classes(rgb_to_lab(pixels))
    frequencies = targets.double().mean((0, 1))
    weights = 1 / (0.5 * frequencies + 0.5 / 261)
    weights /= (weights * frequencies).sum()
    torch.testing.assert_close(method.loss.weights.double(), weights, rtol=1e-4, atol=0)


def test_gray_images_of_a_batch_do_not_change_the_gradient_beyond_the_mean():
    gradients = []
    for extra in (0, 4):
        method = small_method("colorization").eval()  # batch normalization would compare the images
        colored = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        pixels = torch.cat([colored, torch.full((extra, 3, 16, 16), 0.3)])
        method(Views((normalized(pixels),)), START).loss.backward()
        gradients.append(method.decoder[0].weight.grad * len(pixels))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_gray_data_are_refused_before_training(tmp_path):
    gray = pattern_images()
    colors = pattern_images(3)
    copies = ArrayData(gray.gather(torch.arange(96)).expand(-1, 3, -1, -1), mean=colors.mean, std=colors.std)
    for data, message in (
        (gray, "in 3 channels; these have 1"),
        (copies, "16 images spread over the data are all gray"),
    ):
        method = small_method("colorization")
        loader = Loader(data, ViewPipeline(small_views("colorization"), data.mean, data.std), 32)
        optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
        with pytest.raises(ValueError, match=f"Colorization needs images with colors.*{message}"):
            Trainer(callbacks=[], device="cpu").fit(method, loader, optimizer, Schedule(epochs=1))
    config = {
        "data": "fashion_mnist_mini",
        "backbone": "resnet_tiny",
        "method": "colorization",
        "views": {"preset": "colorization", "size": 28},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "run_dir": str(tmp_path / "run"),
    }
    with pytest.raises(ConfigError, match=r"method colorization: Colorization needs images with colors"):
        build(parse_config(config))
    assert not (tmp_path / "run").exists()


def test_build_takes_mean_and_std_from_the_data(tmp_path):
    np.save(tmp_path / "images.npy", pattern_images(3).gather(torch.arange(96)).permute(0, 2, 3, 1).numpy())
    statistics = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}
    config = {
        "data": {"name": "arrays", "path": str(tmp_path / "images.npy"), **statistics},
        "backbone": {"name": "resnet_tiny", "width": 8},
        "method": {"name": "colorization", "hidden_dim": 8},
        "views": {"preset": "colorization", "size": 16},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "evaluation": {"every_epochs": 0},
        "trainer": {"device": "cpu", "batch_size": 32},
        "run_dir": str(tmp_path / "run"),
    }
    experiment = build(parse_config(config))
    assert experiment.method.classes.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert tuple(experiment.config.method.arguments["image_std"]) == (0.2, 0.2, 0.3)
    config["method"]["image_mean"] = [0.5, 0.5, 0.5]
    with pytest.raises(ConfigError, match=r"method\.image_mean is .*, but the data have .*: remove the key"):
        build(parse_config(config))
