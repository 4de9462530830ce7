"""Loading backbone weights from files, folders and torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssl_lib.backbones import load_weights, resnet18, resnet34, resnet_tiny, torchvision_net, vit_micro
from ssl_lib.errors import ConfigError


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], str]:
    def write(content: object) -> str:
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        return str(path)

    return write


def have_equal_weights(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("level", [(), ("state_dict",), ("model",), ("state_dict", "model")])
@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("", ""),
        ("module.", ""),
        ("", "backbone."),
        ("", "encoder."),
        ("module.", "backbone."),
        ("module.", "encoder_q."),
    ],
)
def test_nested_keys_and_wrapper_prefixes_are_removed(
    save: Callable[[object], str], outer: str, inner: str, level: tuple[str, ...]
) -> None:
    donor = resnet_tiny()
    content: dict[str, object] = {outer + inner + key: value for key, value in donor.state_dict().items()}
    content[outer + inner + "fc.weight"] = torch.zeros(10, donor.out_dim)
    if inner:  # the method also has a head next to the backbone
        content[outer + "projector.0.weight"] = torch.zeros(2, 2)
    for name in reversed(level):
        content = {name: content, "epoch": 3}
    net = resnet_tiny(weights=save(content))
    assert have_equal_weights(net, donor)


def test_prefixes_of_the_module_itself_are_kept(save: Callable[[object], str]) -> None:
    donor, net = (nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 1)}) for _ in range(2))
    load_weights(net, save({f"module.{key}": value for key, value in donor.state_dict().items()}))
    assert have_equal_weights(net, donor)


def test_folder_without_a_run_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"are a folder without checkpoints/last\.pt: give the folder of a run"):
        resnet_tiny(weights=str(tmp_path))


def drop_key(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != "layer2.0.conv1.weight"}


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (lambda: drop_key(resnet18().state_dict()), {}, "missing: layer2.0.conv1.weight"),
        (lambda: resnet34().state_dict(), {}, "unexpected: layer1.2.conv1.weight, .* and [0-9]+ more"),
        (
            lambda: resnet18(in_channels=5).state_dict(),
            {},
            r"conv1.weight \(64, 5, 7, 7\) instead of \(64, 3, 7, 7\)",
        ),
        (
            lambda: resnet18().state_dict(),
            {"stem": "small"},
            r"conv1.weight \(64, 3, 7, 7\) instead of \(64, 3, 3, 3\)",
        ),
        (
            lambda: {"mine": resnet18().state_dict(), "epoch": 1},
            {},
            "contains keys mine, epoch, not a state dict",
        ),
        (lambda: torch.zeros(3), {}, "contains a Tensor, not a state dict"),
        (lambda: resnet_tiny(), {}, "as a file of plain tensors"),  # unpickling a module can execute arbitrary code
    ],
)
def test_message_for_mismatched_file_names_path_and_keys(
    save: Callable[[object], str], content: Callable[[], object], arguments: dict[str, object], message: str
) -> None:
    path = save(content())
    with pytest.raises(ConfigError, match=f"{re.escape(path)}.*{message}"):
        resnet18(weights=path, **arguments)


def test_failed_load_does_not_change_the_module(save: Callable[[object], str]) -> None:
    net, donor = resnet18(), resnet18()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ConfigError):
        load_weights(net, save(drop_key(donor.state_dict())))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_message_for_damaged_file_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read the weights .*damaged\.pt"):
        resnet_tiny(weights=str(path))


def test_message_for_unknown_source_suggests_the_closest_name() -> None:
    with pytest.raises(ConfigError, match=r"'IMAGENET1K_V3' are neither a file .* Did you mean 'IMAGENET1K_V1'"):
        resnet18(weights="IMAGENET1K_V3")
    with pytest.raises(
        ConfigError, match=r"'missing\.pt' are neither a file nor the name of torchvision weights\. None"
    ):
        vit_micro(weights="missing.pt")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchvision_weight_names_load_their_files(hub: Path) -> None:
    donor = torchvision.models.resnet18(weights=None)
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(donor.state_dict(), hub / url.rsplit("/", 1)[1])
    donor.fc = nn.Identity()
    assert have_equal_weights(resnet18(weights="DEFAULT"), donor)
    assert have_equal_weights(resnet18(weights="IMAGENET1K_V1"), donor)


def test_old_densenet_keys_are_renamed(hub: Path) -> None:
    donor = torchvision_net("densenet121")
    old = {re.sub(r"(denselayer\d+\.\w+?)([12]\.)", r"\1.\2", k): v for k, v in donor.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    url = torchvision.models.DenseNet121_Weights.DEFAULT.url
    torch.save(old, hub / url.rsplit("/", 1)[1])
    assert have_equal_weights(torchvision_net("densenet121", weights="DEFAULT"), donor)


def test_message_for_failed_download_names_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))  # a folder cannot be created inside a file
    with pytest.raises(
        ConfigError, match=r"cannot download the weights 'DEFAULT' of resnet18 from https://.*give its path"
    ):
        resnet18(weights="DEFAULT")
