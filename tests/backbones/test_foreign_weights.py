"""State dicts as other libraries write them, loaded into backbones: the features equal the source network's."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssl_lib.backbones import load_weights, resnet18, resnet50, resnet_tiny, torchvision_net, vit_micro
from ssl_lib.backbones.vit import VisionTransformer
from ssl_lib.errors import ConfigError

State = dict[str, Tensor]


@pytest.fixture
def save(tmp_path) -> Callable[[object], str]:
    def write(content: object) -> str:
        torch.save(content, tmp_path / "foreign.pth")
        return str(tmp_path / "foreign.pth")

    return write


def randomized(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, with random biases and running statistics, so that every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return net.eval()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def assert_equal_features(net: nn.Module, donor: nn.Module, size: int = 32, channels: int = 3) -> None:
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), donor(images).flatten(1), rtol=1e-5, atol=1e-5)


HEAD = {"weight": torch.zeros(4, 4)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
LAYOUTS: dict[str, Callable[[State], object]] = {
    "SimSiam": lambda s: {"epoch": 9, "state_dict": prefixed("module.encoder.", s | prefixed("fc.0.", HEAD))},
    "MoCo": lambda s: {
        "state_dict": prefixed("module.encoder_q.", s | prefixed("fc.0.", HEAD))
        | prefixed("module.", {"queue": torch.zeros(2, 2), "queue_ptr": torch.zeros(1)})
    },
    "MoCo v3": lambda s: {"state_dict": prefixed("module.base_encoder.", s) | prefixed("module.predictor.", HEAD)},
    "DINO teacher alone": lambda s: {"teacher": prefixed("backbone.", s) | prefixed("head.mlp.0.", HEAD)},
    "DINO student": lambda s: {"student": prefixed("module.backbone.", s), "optimizer": OPTIMIZER, "epoch": 3},
    "SwAV": lambda s: prefixed("module.", s | prefixed("projection_head.0.", HEAD) | prefixed("prototypes.", HEAD)),
    "Barlow Twins": lambda s: {"model": prefixed("module.backbone.", s) | prefixed("module.projector.0.", HEAD)},
    "byol-pytorch": lambda s: prefixed("online_encoder.net.", s) | prefixed("online_encoder.projector.net.0.", HEAD),
    "VISSL": lambda s: {
        "classy_state_dict": {"base_model": {"model": {"trunk": prefixed("_feature_blocks.", s), "heads": HEAD}}}
    },
    "compiled DDP": lambda s: {"model_state_dict": prefixed("_orig_mod.module.", s)},
    "DDP of a compiled network": lambda s: {"model": prefixed("module._orig_mod.", s), "args": "text"},
    "solo-learn": lambda s: {"state_dict": prefixed("backbone.", s) | prefixed("classifier.", HEAD)},
    "teacher.backbone.": lambda s: {"model": prefixed("teacher.backbone.", s) | prefixed("teacher.dino_head.", HEAD)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_in_the_layouts_of_other_libraries_are_loaded(layout, save):
    donor = randomized(resnet_tiny())
    net = resnet_tiny(weights=save(LAYOUTS[layout](donor.state_dict())))
    assert_equal_features(net, donor)


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        (lambda a, b: {"student": prefixed("module.backbone.", b), "teacher": prefixed("backbone.", a)}, "teacher"),
        (lambda a, b: prefixed("student_backbone.", b) | prefixed("teacher_backbone.", a), "teacher_backbone"),
        (lambda a, b: {"encoder": b, "target_encoder": prefixed("module.", a), "epoch": 1}, "target_encoder"),
        (lambda a, b: {"state_dict": b, "state_dict_ema": a}, "state_dict_ema"),
        (lambda a, b: prefixed("target_encoder.net.", b) | prefixed("online_encoder.net.", a), "online_encoder"),
    ],
)
def test_choice_between_networks_is_reported(content, chosen, save):
    preferred, other = randomized(resnet_tiny(), 0), randomized(resnet_tiny(), 1)
    path = save(content(preferred.state_dict(), other.state_dict()))
    with pytest.warns(UserWarning, match=rf"foreign\.pth': '{chosen}[\w.]*' is loaded, not '"):
        net = resnet_tiny(weights=path)
    assert_equal_features(net, preferred)


def test_teacher_of_another_size_is_not_taken_for_a_fitting_student(save):
    student, teacher = randomized(resnet_tiny()), resnet_tiny(width=48)
    net = resnet_tiny(weights=save({"teacher": teacher.state_dict(), "student": student.state_dict()}))
    assert_equal_features(net, student)
    with pytest.raises(ConfigError, match=r"in '(teacher|student)' do not match this backbone; wrong shape: conv1"):
        resnet_tiny(width=30, weights=save({"teacher": teacher.state_dict(), "student": student.state_dict()}))


def sequential(net: nn.Module) -> nn.Sequential:
    """The network without its last child, as in lightly's tutorials: `nn.Sequential(*list(net.children())[:-1])`."""
    return nn.Sequential(*list(net.children())[:-1])


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "efficientnet_b0", "mobilenet_v3_small", "shufflenet_v2_x0_5"]
)
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_numbered_children_are_named(name, prefix, save):
    theirs = randomized(torchvision.models.get_model(name, weights=None))
    donor = sequential(theirs)
    build = {"resnet18": resnet18, "resnet50": resnet50}.get(name)
    state = prefixed(prefix, donor.state_dict()) | (prefixed("projection_head.layers.0.", HEAD) if prefix else {})
    if name == "mobilenet_v3_small":  # its last child contains a layer of the features
        with pytest.raises(ConfigError, match=r"missing: classifier\.0\.weight"):
            torchvision_net(name, weights=save(state))
        return
    net = build(weights=save(state)) if build else torchvision_net(name, weights=save(state))
    images = torch.randn(2, 3, 64, 64)
    features = donor(images)
    features = features.mean((2, 3)) if features.ndim == 4 else features
    torch.testing.assert_close(net.eval()(images), features, rtol=1e-5, atol=1e-5)


def test_lightlys_own_resnet_for_small_images_is_loaded(save):
    """Children conv1, bn1, layer1 to layer4 without ReLU and max-pooling; `shortcut` instead of `downsample`."""
    donor = randomized(resnet18(stem="small"))
    order = {
        name: str(number) for name, number in zip(("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"), count())
    }
    state = {}
    for key, value in donor.state_dict().items():
        child, _, rest = key.partition(".")
        state[f"backbone.{order[child]}.{rest.replace('downsample', 'shortcut')}"] = value
    assert_equal_features(resnet18(stem="small", weights=save({"state_dict": state})), donor)
    with pytest.raises(ConfigError, match=r"conv1\.weight \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)"):
        resnet18(weights=save({"state_dict": state}))


def test_numbered_children_of_a_deeper_network_are_refused(save):
    state = sequential(torchvision.models.resnet34(weights=None)).state_dict()
    with pytest.raises(ConfigError, match=r"unexpected: layer1\.2\.conv1\.weight"):
        resnet18(weights=save(prefixed("backbone.", state)))
    state = sequential(resnet_tiny()).state_dict() | {"9.weight": torch.zeros(2)}
    with pytest.raises(ConfigError, match=r"unexpected: 9\.weight"):
        resnet_tiny(weights=save(state))


def test_batch_counters_may_be_missing(save):
    donor = randomized(resnet_tiny())
    state = {key: value for key, value in donor.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert len(state) < len(donor.state_dict())
    assert_equal_features(resnet_tiny(weights=save(state)), donor)
    del state["bn1.running_mean"]
    with pytest.raises(ConfigError, match=r"missing: bn1\.running_mean\."):
        resnet_tiny(weights=save(state))


def test_mae_decoder_is_left_out(save):
    donor = randomized(vit_micro())
    decoder = {"mask_token": torch.zeros(1, 1, 64), "decoder_pos_embed": torch.zeros(1, 50, 64)}
    decoder |= {f"decoder_{name}.weight": torch.zeros(2, 2) for name in ("embed", "norm", "pred", "blocks.0.mlp.fc1")}
    assert_equal_features(vit_micro(weights=save({"model": donor.state_dict() | decoder})), donor, size=28)
    # a fine-tuned network of MAE normalizes the mean of the patches instead of the class token
    state = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in donor.state_dict().items()}
    with pytest.raises(ConfigError, match=r"missing: norm\.weight, norm\.bias; unexpected: fc_norm\.weight"):
        vit_micro(weights=save({"model": state | decoder}))


def test_dinov2_names_are_renamed(save):
    """Registers under another name, blocks in chunks with numbers that continue, and a mask token."""
    donor = randomized(vit_micro(registers=4))
    state = {"mask_token": torch.zeros(1, 128)}
    for key, value in donor.state_dict().items():
        key = re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", key)
        state[key.replace("reg_token", "register_tokens")] = value
    assert "blocks.1.3.norm1.weight" in state
    net = vit_micro(registers=4, weights=save({"teacher": prefixed("backbone.", state)}))
    assert_equal_features(net, donor, size=28)
    state["reg_token"] = torch.zeros(1, 4, 128)
    with pytest.raises(ConfigError, match="several keys for one: register_tokens for reg_token, reg_token for reg_tok"):
        vit_micro(registers=4, weights=save(state))


def test_torchvision_vit_is_loaded_into_the_library_vit(save):
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 512, num_classes=10)
    path = save(randomized(theirs).state_dict())
    theirs.heads = nn.Identity()
    net = VisionTransformer(128, depth=2, patch_size=8, image_size=32)
    load_weights(net, path)
    assert_equal_features(net, theirs)
