"""Arguments that subclasses take by `**kwargs` and pass to their base, in signatures and in configs."""

from __future__ import annotations

import pytest
import yaml
from torch import nn

from ssl_lib import ConfigError, SimCLR
from ssl_lib.backbones import VisionTransformer
from ssl_lib.cli.describe import described
from ssl_lib.cli.main import main
from ssl_lib.config.convert import REQUIRED, arguments_of, check_arguments
from ssl_lib.config.load import parse_config, to_yaml
from ssl_lib.experiment.build import build
from tests.config.helper import GOOD


class Base(nn.Module):
    def __init__(self, backbone: nn.Module, dim: int, temperature: float = 0.1, *, bias: bool = True) -> None:
        super().__init__()
        self.values = (dim, temperature, bias)


class Passes(Base):
    def __init__(self, backbone: nn.Module, weight: float = 0.5, **kwargs: object) -> None:
        super().__init__(backbone, **kwargs)


class FixesByName(Base):
    def __init__(self, **rest: object) -> None:
        super().__init__(temperature=1.0, **rest)


class FixesByPosition(Base):
    def __init__(self, backbone: nn.Module, **kwargs: object) -> None:
        Base.__init__(self, backbone, 16, **kwargs)


class Defaults(Base):
    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("dim", 8)
        super().__init__(*args, **{"temperature": 0.7, **kwargs})


class Swallows(Base):
    def __init__(self, backbone: nn.Module, **kwargs: object) -> None:
        super().__init__(backbone, 4)


class Stops(Passes):
    def __init__(self, backbone: nn.Module, own: str = "") -> None:
        super().__init__(backbone, dim=2)


class Grandchild(Passes):
    def __init__(self, backbone: nn.Module, temperature: float = 0.3, **kwargs: object) -> None:
        super().__init__(backbone, temperature=temperature, **kwargs)


class Mixin:
    def __init__(self, *args: object, rate: float = 0.2, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)


class Mixed(Mixin, Base):
    pass


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (Base, ["dim", "temperature", "bias"]),
        (Passes, ["weight", "dim", "temperature", "bias"]),
        (FixesByName, ["dim", "bias"]),
        (FixesByPosition, ["temperature", "bias"]),
        (Defaults, ["dim", "temperature", "bias"]),
        (Swallows, []),
        (Stops, ["own"]),
        (Grandchild, ["temperature", "weight", "dim", "bias"]),
        (Mixed, ["rate", "dim", "temperature", "bias"]),
    ],
)
def test_arguments_follow_the_constructors_that_get_them(part, names):
    assert list(arguments_of(part, ["backbone"])) == names


def test_inherited_arguments_have_the_annotations_and_defaults_of_the_base():
    arguments = arguments_of(Passes, ["backbone"])
    assert arguments["temperature"].annotation is float and arguments["temperature"].default == 0.1
    assert arguments["dim"].annotation is int and arguments["dim"].default is REQUIRED
    checked = check_arguments({"temperature": 1, "dim": 3}, arguments, "method")
    assert checked == {"weight": 0.5, "temperature": 1.0, "dim": 3} and isinstance(checked["temperature"], float)
    with pytest.raises(ConfigError, match=r"method\.temperature: expected a number, got 'x'"):
        check_arguments({"temperature": "x"}, arguments, "method")
    with pytest.raises(ConfigError, match=r"unknown key 'method\.temprature'.*'method\.temperature'"):
        check_arguments({"temprature": 1}, arguments, "method")


def test_defaults_that_the_subclass_chooses_are_kept():
    backbone = nn.Identity()
    checked = check_arguments({"bias": False}, arguments_of(Defaults, ["backbone"]), "method")
    assert Defaults(backbone, **checked).values == (8, 0.7, False)


def test_class_without_source_code_is_taken_to_pass_all_on():
    space = {"Base": Base}
    exec("class Typed(Base):\n    def __init__(self, **kwargs):\n        super().__init__(**kwargs)\n", space)
    assert list(arguments_of(space["Typed"], ["backbone"])) == ["dim", "temperature", "bias"]


SOURCE = """
from ssl_lib import BACKBONES, METHODS, SimCLR
from ssl_lib.backbones import VisionTransformer

@METHODS.register("weighted")
class Weighted(SimCLR):
    '''SimCLR with a weight.

    Args:
        weight: Factor of the loss.
    '''

    def __init__(self, backbone, weight: float = 2.0, **kwargs):
        super().__init__(backbone, **kwargs)
        self.weight = weight

@BACKBONES.register("vit_own")
class Own(VisionTransformer):
    def __init__(self, **kwargs):
        super().__init__(64, depth=1, in_channels=1, **kwargs)
"""


def test_config_sets_inherited_arguments(tmp_path, capsys):
    (tmp_path / "inheriting.py").write_text(SOURCE, encoding="utf-8")
    method = {"name": "weighted", "temperature": 0.37, "hidden_dim": 24}
    values = {**GOOD, "imports": ["inheriting.py"], "method": method, "backbone": {"name": "vit_own", "patch_size": 7}}
    experiment = build(parse_config(values, folder=tmp_path))
    assert experiment.method.loss.temperature == 0.37 and experiment.method.weight == 2.0
    backbone = experiment.method.backbone
    assert isinstance(backbone, VisionTransformer) and backbone.grid == (4, 4)  # image_size is that of the views
    written = yaml.safe_load(to_yaml(experiment.config))
    assert written["method"] == {**method, "weight": 2.0}
    assert written["backbone"] == {"name": "vit_own", "patch_size": 7, "image_size": 28}
    again = build(parse_config({**written, "imports": ["inheriting.py"]}, folder=tmp_path))
    assert to_yaml(again.config) == to_yaml(experiment.config)
    with pytest.raises(ConfigError, match=r"unknown key 'method\.temprature'.*'method\.temperature'"):
        build(parse_config({**values, "method": {"name": "weighted", "temprature": 1.0}}, folder=tmp_path))
    assert main(["list", "methods", "weighted"]) == 0
    out = capsys.readouterr().out
    assert "  weight: float = 2.0\n      Factor of the loss.\n" in out
    meaning = described(SimCLR)[1]["temperature"]
    assert f"  temperature: float = 0.1\n      {meaning[:40]}" in out
