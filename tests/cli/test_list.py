"""Tests of `ssl-lib list`, and of the descriptions of components and arguments that it prints."""

from __future__ import annotations

import re

import pytest

from ssl_lib.cli.common import config_folder
from ssl_lib.cli.describe import described
from ssl_lib.cli.list import registry_of
from ssl_lib.config.convert import arguments_of
from ssl_lib.config.resolve import GIVEN
from ssl_lib.registry import BACKBONES, KINDS, METHODS, PRESETS
from ssl_lib.views import ViewConfig
from tests.cli.conftest import error_of, stdout_of


def test_list_prints_components_of_every_kind(capsys):
    out = stdout_of(capsys, "list")
    for name in ("simclr", "resnet18", "timm/*", "fashion_mnist_mini", "lars", "NTXentLoss", "cifar10/byol"):
        assert f"  {name}" in out


def test_list_of_a_kind_prints_its_names_in_order(capsys):
    names = [line.split()[0] for line in stdout_of(capsys, "list", "optimizers").splitlines()]
    assert names == ["adamw", "lars", "sgd"]


def test_list_groups_methods_by_family(capsys):
    groups = stdout_of(capsys, "list", "methods").split(":\n")
    found = {line.split()[0] for group in groups[1:] for line in group.splitlines() if line.startswith("  ")}
    assert found == set(METHODS)
    pretext = stdout_of(capsys, "list", "methods").partition("pretext:\n")[2].partition(":\n")[0]
    names = [line.split()[0] for line in pretext.splitlines() if line.startswith("  ")]
    assert names == sorted(name for name in METHODS if METHODS[name].family == "pretext")


def test_list_prints_many_similar_names_as_a_paragraph(capsys):
    out = stdout_of(capsys, "list", "backbones")
    line = next(line for line in out.splitlines() if "backbones of torchvision" in line)
    names = " ".join(out.partition(line)[2].split()).split(", ")
    assert line.startswith(f"  {len(names)} backbones") and {"alexnet", "swin_t"} <= set(names) <= {*BACKBONES}
    assert max(map(len, out.splitlines())) < 130


def test_list_of_configs_aligns_their_descriptions(capsys):
    lines = re.findall(r"^  [a-z].*$", stdout_of(capsys, "list", "configs"), flags=re.M)  # no paragraphs of many names
    start = max(len(line.split()[0]) for line in lines) + 2
    assert all(line[start] == " " != line[start + 1] for line in lines)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("methods simclr", ["arXiv:2002.05709", "  temperature: float = 0.1\n"]),
        ("data image_folder", ["bank_root: str | Path | None = None"]),
        ("views dino", ["small_size: int = 96", "solarize_p"]),
        ("backbones resnet18", ["stem: Literal['imagenet', 'small'] = 'imagenet'", '"small" keeps it']),
        ("backbones timm/vit_small", ["pretrained: bool = False"]),
        ("data fashion_mnist_mini", ["arguments: none\n"]),
    ],
)
def test_list_prints_the_arguments_of_a_component(component, expected, capsys):
    out = stdout_of(capsys, "list", *component.split())
    for text in expected:
        assert text in out


@pytest.mark.parametrize(("component", "given"), [("methods simclr", "backbone"), ("data image_folder", "split")])
def test_list_omits_arguments_that_the_library_passes(component, given, capsys):
    out = stdout_of(capsys, "list", *component.split())
    assert f"\n  {given}:" not in out.split("arguments:")[1]


def test_list_prints_a_bundled_config(capsys):
    assert stdout_of(capsys, "list", "configs", "quickstart") == (config_folder() / "quickstart.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method"], "Did you mean 'methods'"),
        (["methods", "simcrl"], "Did you mean 'simclr'"),
        (["byol"], "byol is not a kind, but one of the methods and views: ssl-lib list methods byol"),
    ],
)
def test_list_suggests_the_closest_name(arguments, message, capsys):
    assert message in error_of(capsys, "list", *arguments)


@pytest.mark.parametrize("kind", [*KINDS, "losses"])
def test_every_argument_of_every_component_is_described(kind):
    registry = registry_of(kind)
    for name in registry:
        about, meanings = described(registry[name])
        assert about and "Args:" not in about
        if registry is PRESETS:
            meanings = {**described(ViewConfig)[1], **meanings}
        for argument in arguments_of(registry[name], GIVEN.get(registry, ())):
            assert meanings.get(argument), f"{name}: {argument}"
            assert not meanings[argument].startswith("See "), f"{name}: {argument}"
