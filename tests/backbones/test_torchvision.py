"""torchvision backbones compared with torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision

from ssl_lib.backbones import torchvision_net
from ssl_lib.errors import ConfigError

# The classifier module, its remaining layers, and the removed layer.
LAST = {
    "convnext_tiny": ("classifier", ["LayerNorm2d", "Flatten"], "classifier.2"),
    "densenet121": ("classifier", [], "classifier"),
    "efficientnet_b0": ("classifier", [], "classifier.1"),
    "mobilenet_v3_small": ("classifier", ["Linear", "Hardswish"], "classifier.3"),
    "swin_t": ("head", [], "head"),
    "vgg11": ("classifier", ["Linear", "ReLU", "Dropout", "Linear", "ReLU"], "classifier.6"),
    "vit_b_16": ("heads", [], "heads.head"),
}


@pytest.mark.parametrize("name", LAST)
def test_only_the_last_layer_and_its_dropout_are_removed(name: str) -> None:
    classifier, kept, removed = LAST[name]
    with torch.device("meta"):
        theirs, ours = torchvision.models.get_model(name, weights=None), torchvision_net(name)
    assert [type(module).__name__ for module in ours.get_submodule(classifier)] == kept
    assert list(ours.state_dict()) == [key for key in theirs.state_dict() if not key.startswith(removed + ".")]


@pytest.mark.parametrize(("name", "last"), [("mobilenet_v3_small", "classifier.3"), ("regnet_y_400mf", "fc")])
def test_features_equal_the_input_of_torchvisions_last_layer(name: str, last: str) -> None:
    torch.manual_seed(0)
    theirs, ours = torchvision.models.get_model(name, weights=None).eval(), torchvision_net(name).eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith(last)})
    features: list[torch.Tensor] = []
    theirs.get_submodule(last).register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        theirs(images)
        torch.testing.assert_close(ours(images), features[0], rtol=0, atol=0)


def test_stem_for_other_channels_keeps_the_output_scale() -> None:
    torch.manual_seed(0)
    scales = []
    for channels in (3, 1, 12):
        stem = torchvision_net("mobilenet_v2", in_channels=channels).features[0][0]
        scales.append(stem(torch.randn(4, channels, 32, 32)).std().item())
    assert scales[1:] == pytest.approx([scales[0]] * 2, rel=0.15)


@pytest.mark.parametrize(("name", "hint"), [("convnext_tin", "Did you mean 'convnext_tiny'"), ("squeezenet1_0", "")])
def test_unknown_or_unsupported_name_raises(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no network {name!r} .*{hint}"):
        torchvision_net(name)
