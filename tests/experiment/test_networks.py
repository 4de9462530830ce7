"""Networks as arguments of methods in a config: built like the backbone, saved, resumed, evaluated and exported."""

from __future__ import annotations

import shutil

import pytest
import torch

from ssl_lib import ConfigError, TrainedBackbone, build, load_method, load_run
from ssl_lib.cli.common import parse_changes
from ssl_lib.cli.main import main
from ssl_lib.config.load import parse_config, to_yaml
from ssl_lib.config.networks import network_arguments
from ssl_lib.config.resolve import resolve
from ssl_lib.experiment.build_method import build_method
from ssl_lib.methods import ClusterFit, SimCLR
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from ssl_lib.utils.yaml import parse_yaml
from tests.experiment.conftest import SMALL

GOOD = {
    "data": {"name": "fashion_mnist_mini"},
    "backbone": {"name": "resnet_tiny", "width": 8},
    "method": {"name": "clusterfit", "num_clusters": 8, "pretrained": {"name": "resnet_tiny", "width": 4}},
    "views": {"preset": "clusterfit", "size": 28},
    "optimizer": {"name": "sgd", "lr": 0.1},
}
FOLDER = "data={{name: image_folder, root: {}}}"


def config_of(*changes):
    return resolve(parse_config(GOOD, parse_changes(changes)))


def test_networks_are_the_arguments_annotated_as_modules():
    assert list(network_arguments(ClusterFit)) == ["pretrained"]
    assert not network_arguments(SimCLR)


def test_network_gets_its_defaults_and_survives_yaml():
    config = config_of("method.pretrained=resnet18", "method.pretrained.stem=small")
    pretrained = config.method.arguments["pretrained"]
    assert pretrained.name == "resnet18" and pretrained.arguments["stem"] == "small"
    assert pretrained.arguments["weights"] is None
    again = resolve(parse_config(parse_yaml(to_yaml(config), "it")))
    assert to_yaml(again) == to_yaml(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method={name: clusterfit}", r"missing key 'method\.pretrained\.name': clusterfit needs a second network"),
        ("method.pretrained=null", r"missing key 'method\.pretrained\.name'"),
        (
            "method.pretrained.name=resnet_tyni",
            r"method\.pretrained\.name: unknown backbone 'resnet_tyni'.*resnet_tiny",
        ),
        ("method.pretrained={width: 4}", r"method\.pretrained: expected a name and arguments"),
        ("method.pretrained=4", r"method\.pretrained: expected a name and arguments"),
        ("method.pretrained.widht=4", r"unknown key 'method\.pretrained\.widht'.*'method\.pretrained\.width'"),
        ("method.pretrained.width=wide", r"method\.pretrained\.width: expected an integer"),
        ("method.pretraned=resnet18", r"unknown key 'method\.pretraned'"),
    ],
)
def test_wrong_networks_are_named_before_anything_is_built(change, message):
    with pytest.raises(ConfigError, match=message):
        config_of(change)


def test_errors_of_the_constructor_name_the_argument():
    with pytest.raises(ConfigError, match=r"method\.pretrained resnet_tiny: the weights 'nowhere' are neither a file"):
        build_method(config_of("method.pretrained.weights=nowhere"))


def test_channels_and_image_size_of_the_network_are_those_of_the_data(capsys):
    experiment = build(parse_config(GOOD))
    assert experiment.method.pretrained.network[0].in_channels == 1
    assert experiment.config.method.arguments["pretrained"].arguments["in_channels"] == 1
    assert "method.pretrained has random weights" in capsys.readouterr().err


def test_backbone_starts_alike_with_any_second_network():
    widths = (f"method.pretrained.width={width}" for width in (4, 8))
    first, second = (build_method(config_of(width, "method.num_images=20")) for width in widths)
    for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def clusterfit(run, folder):
    """Settings of a ClusterFit run on the clusters of another run's teacher, of another width than the backbone."""
    pretrained = f"{{name: resnet_tiny, width: 8, weights: {run}}}"
    return [
        *SMALL,
        FOLDER.format(folder),
        "backbone={name: resnet_tiny, width: 4}",
        f"method={{name: clusterfit, num_clusters: 4, pretrained: {pretrained}}}",
        "evaluation={every_epochs: 2, knn: {k: 2}, linear: null}",
        "schedule={epochs: 2}",
    ]


@pytest.fixture(scope="module")
def trained(clusterfit, tmp_path_factory):
    path = tmp_path_factory.mktemp("clusterfit") / "run"
    assert main(["train", "quickstart", *clusterfit, f"run_dir={path}"]) == 0
    return path


def test_network_is_the_encoder_of_the_named_run_and_part_of_the_checkpoint(run, trained):
    expected = load_method(run).encoder.state_dict()
    saved = load_checkpoint(trained / "checkpoints" / "last.pt")["method"]
    for key, value in expected.items():
        assert torch.equal(saved[f"pretrained.network.{key}"], value), key


def test_run_evaluates_and_exports_after_the_file_of_the_weights_is_gone(run, trained, tmp_path):
    pytest.importorskip("safetensors")
    moved, saved = tmp_path / "moved", load_checkpoint(trained / "checkpoints" / "last.pt")
    shutil.copytree(trained, moved)
    assert f"weights: {run}" in saved["config"]
    gone = {**saved, "config": saved["config"].replace(f"weights: {run}", f"weights: {tmp_path / 'gone'}")}
    save_checkpoint(moved / "checkpoints" / "last.pt", gone)
    method = load_run(moved).method
    assert torch.equal(method.pretrained.network[0].weight, load_method(run).encoder[0].weight)
    assert main(["evaluate", str(moved), "knn"]) == 0
    assert main(["export", str(moved), "--to", "safetensors", "--output", str(tmp_path / "net.safetensors")]) == 0
    exported = TrainedBackbone.from_file(tmp_path / "net.safetensors")
    assert torch.equal(exported.net[0].weight, method.backbone[0].weight)


def test_resumed_run_equals_an_unbroken_one(clusterfit, trained, tmp_path):
    path = tmp_path / "run"
    broken = [*clusterfit, "trainer.save_every=1", "trainer.keep_every=1"]
    assert main(["train", "quickstart", *broken, f"run_dir={path}"]) == 0
    (path / "checkpoints" / "last.pt").unlink()
    earlier = sorted((path / "checkpoints").glob("*.pt"))[0]
    assert load_checkpoint(earlier)["step"] == 2
    for later in sorted((path / "checkpoints").glob("*.pt"))[1:]:
        later.unlink()
    assert main(["train", str(path), "--resume"]) == 0
    whole, resumed = (load_checkpoint(one / "checkpoints" / "last.pt")["method"] for one in (trained, path))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
