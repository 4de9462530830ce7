"""Recipes that cite a source have its values, except for the differences that they list with a reason."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from ssl_lib import METHODS, load_config
from ssl_lib.config.lineage import CHANGED, differences
from ssl_lib.config.load import parse_config, plain
from ssl_lib.config.resolve import resolve
from ssl_lib.errors import ConfigError
from ssl_lib.types import Progress
from ssl_lib.utils.yaml import flat
from ssl_lib.views.functional import gaussian_blur
from tests.conftest import TinyBackbone

ROOT = Path(__file__).parents[2] / "configs"
CITING = sorted(path for path in ROOT.rglob("*.yaml") if "# Source:" in path.read_text(encoding="utf-8"))


def config_of(name, **changes):
    return plain(resolve(load_config(ROOT / f"{name}.yaml", changes)))


@pytest.mark.parametrize("path", CITING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_difference_from_the_source_is_listed_with_its_reason(path):
    config = plain(resolve(load_config(path)))
    settings, source = flat(config), config["source"]
    assert len(source["values"]) >= 25 and source["of"] and source["result"]
    assert source["values"].keys() <= settings.keys(), "each is a setting"
    found = differences(config)
    assert [difference.key for difference in found if difference.reason == CHANGED] == []
    assert {difference.key for difference in found} == source["differences"].keys(), "each listed one exists"
    names = [difference.key for difference in found if not difference.setting]
    assert not settings.keys() & names and all(len(difference.reason) > 20 for difference in found)


def test_all_recipes_of_cifar_and_imagenet_cite_a_source_or_say_that_there_is_none():
    recipes = {path for name in ("cifar10", "imagenet") for path in (ROOT / name).iterdir()}
    without = {path for path in recipes if path.read_text(encoding="utf-8").startswith("# No published recipe: ")}
    assert recipes - without == set(CITING)
    assert {path.relative_to(ROOT).as_posix() for path in without} == {"cifar10/colorization.yaml"}


def test_change_of_a_run_is_a_difference_without_a_reason_of_the_recipe():
    before = differences(config_of("cifar10/dino"))
    found = differences(config_of("cifar10/dino", **{"method.teacher_temperature": 0.04}))
    (new,) = [difference for difference in found if difference not in before]
    assert new == ("method.teacher_temperature", 0.04, 0.07, CHANGED, True)
    assert differences({**config_of("cifar10/dino"), "source": None}) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cifar10/dino", {"method.teacher_temperature": 0.07, "method.momentum": 0.9995}),
        ("cifar10/simclr", {"method.projector_norm": False, "optimizer.lr": 0.4, "views[0].blur_kernel": 19}),
        ("cifar10/vicreg", {"method.variance_weight": 50.0}),
        ("imagenet/moco_v3", {"backbone.zero_init_residual": True, "views[1].solarize_p": 0.2}),
        ("imagenet/ressl", {"method.queue_size": 131072, "views[1].jitter_p": 0.0}),
        ("imagenet/dino", {"trainer.batch_size": 512, "schedule.end": 1e-6 / (5e-4 * 512 / 256)}),
        ("imagenet/simclr", {"backbone.zero_init_residual": True}),
    ],
)
def test_values_of_the_sources(name, values):
    settings = flat(config_of(name))
    assert {key: settings[key] for key in values} == values


@pytest.mark.parametrize(
    "name", ["barlow_twins", "byol", "dino", "moco_v3", "nnclr", "ressl", "simclr", "simsiam", "supcon", "vicreg"]
)
def test_warmup_equals_solo_learns(name):
    """Its closed form (solo/utils/lr_scheduler.py): from 3e-5 to the peak at the last of the warmup's steps."""
    config = resolve(load_config(ROOT / f"cifar10/{name}.yaml"))
    steps, per_epoch, peak = 195_000, 195, config.optimizer.arguments["lr"]
    warmup = 10 * per_epoch
    for step in (0, 1, 700, warmup - 1, warmup, 100_000, steps - 1):
        if step < warmup:
            expected = 3e-5 + step * (peak - 3e-5) / (warmup - 1)
        else:
            expected = 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        found = peak * config.schedule.lr_factor(Progress(step, steps, per_epoch))
        assert found == pytest.approx(expected, rel=1e-9)


def test_simclr_projector_for_cifar_is_solo_learns():
    config = resolve(load_config(ROOT / "cifar10/simclr.yaml"))
    projector = METHODS["simclr"](TinyBackbone(), **config.method.arguments).projector
    expected = nn.Sequential(nn.Linear(16, 2048), nn.ReLU(), nn.Linear(2048, 256))
    assert repr(projector) == repr(expected)
    expected.load_state_dict(projector.state_dict())
    features = torch.randn(5, 16)
    assert torch.equal(projector(features), expected(features))


@pytest.mark.parametrize("name", ["simclr", "simsiam"])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_for_cifar_spreads_an_edge_as_far_as_pillows(name, sigma):
    """solo-learn blurs with Pillow, which approximates the Gaussian by box filters. Three pixels are too few."""
    (view,) = resolve(load_config(ROOT / f"cifar10/{name}.yaml")).views
    edge = np.zeros((32, 32), np.uint8)
    edge[:, 16:] = 255
    pillow = np.asarray(Image.fromarray(edge).filter(ImageFilter.GaussianBlur(sigma)), np.float32)

    def largest_difference(kernel_size):
        image = torch.from_numpy(edge).float()[None, None]
        blurred = gaussian_blur(image, torch.tensor([sigma]), kernel_size)[0, 0].numpy()
        return float(np.abs(blurred - pillow)[:, 6:26].max()) / 255

    assert largest_difference(view.kernel_size) < 0.04
    assert sigma < 2 or largest_difference(3) > 0.1


def test_source_is_checked_and_changes_no_run():
    values = {"data": "cifar10", "backbone": "resnet18", "method": "simclr", "views": {"preset": "simclr", "size": 32}}
    values["optimizer"] = {"name": "lars", "lr": 0.3}
    with pytest.raises(ConfigError, match=r"missing key 'source\.of'"):
        parse_config({**values, "source": {"values": {}}})
    with pytest.raises(ConfigError, match=r"unknown key 'source\.vlues'\. Did you mean 'source\.values'"):
        parse_config({**values, "source": {"of": "a paper", "vlues": {}}})
    assert parse_config({**values, "source": {"of": "a paper"}}).method == parse_config(values).method
