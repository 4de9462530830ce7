"""ResNet backbones compatible with torchvision, with stems for small images and a tiny variant for CPUs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ssl_lib.backbones.weights import load_weights
from ssl_lib.registry import BACKBONES

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet_tiny", "wide_resnet50_2"]

STEMS = {"imagenet": (7, 2), "half": (3, 2), "small": (3, 1)}  # kernel size and stride


class ResNet(nn.Sequential):
    """ResNet without classifier: (N, C, H, W) -> (N, out_dim).

    Features, initialization and state dict keys equal torchvision/models/resnet.py without `fc`.

    Args:
        block: torchvision's `BasicBlock` or `Bottleneck`.
        layers: Number of blocks in each stage; every stage except the first halves the resolution.
        widths: Width of each stage, before the expansion by 4 of bottleneck blocks.
        in_channels: Number of image channels.
        stem: "imagenet" divides the resolution by 4 (7x7 stride 2, then max-pool), "half" by 2 (3x3 stride 2), "small"
            keeps it (3x3 stride 1; simclr/tf2/resnet.py on CIFAR), for images of 28 to 64 pixels.
        zero_init_residual: Whether to initialize every residual branch to output zero (arXiv:1706.02677, section 5.1).
        bottleneck_factor: Width factor of the 3x3 convolution in bottleneck blocks; 2 in wide ResNets.
        pool: The last feature map is average-pooled to a pool x pool grid and flattened; 1 is global average pooling.

    Attributes:
        out_dim: Width of the features.

    Raises:
        ValueError: The stem is unknown.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        in_channels: int = 3,
        stem: Literal["imagenet", "half", "small"] = "imagenet",
        zero_init_residual: bool = False,
        bottleneck_factor: int = 1,
        pool: int = 1,
    ) -> None:
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
        kernel, stride = STEMS[stem]
        channels = widths[0]
        modules: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
            bn1=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
        if stem == "imagenet":
            modules["maxpool"] = nn.MaxPool2d(3, 2, 1)
        for i, (depth, width) in enumerate(zip(layers, widths, strict=True)):
            modules[f"layer{i + 1}"] = _stage(block, channels, width, depth, 2 if i else 1, bottleneck_factor)
            channels = width * block.expansion
        super().__init__(modules | {"avgpool": nn.AdaptiveAvgPool2d(pool), "flatten": nn.Flatten()})
        self.out_dim = channels * pool**2
        self._reset_parameters(zero_init_residual)

    def _reset_parameters(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, BasicBlock | Bottleneck):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, depth: int, stride: int, factor: int
) -> nn.Sequential:
    out = width * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    first = block(channels, width, stride, shortcut, base_width=64 * factor)
    return nn.Sequential(first, *(block(out, width, base_width=64 * factor) for _ in range(depth - 1)))


_ARGUMENTS = """\
Args:
    in_channels: Number of image channels.
    stem: "imagenet" divides the resolution by 4 (7x7 stride 2, then max-pool); "small" keeps it (3x3 stride 1), for
        images of 28 to 64 pixels.
    zero_init_residual: Whether to initialize every residual branch to output zero (arXiv:1706.02677, section 5.1).
    weights: Initial weights: a state dict file, a run folder or checkpoint, or the name of torchvision weights such as
        "DEFAULT"; see `load_weights`. None initializes randomly.
"""


def _factory(
    name: str, block: type[BasicBlock] | type[Bottleneck], layers: Sequence[int], bottleneck_factor: int = 1
) -> Callable[..., ResNet]:
    def build(
        *,
        in_channels: int = 3,
        stem: Literal["imagenet", "small"] = "imagenet",
        zero_init_residual: bool = False,
        weights: str | None = None,
    ) -> ResNet:
        net = ResNet(
            block,
            layers,
            in_channels=in_channels,
            stem=stem,
            zero_init_residual=zero_init_residual,
            bottleneck_factor=bottleneck_factor,
        )
        if weights is not None:
            load_weights(net, weights, name)
        return net

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{name} of torchvision, as a `ResNet`.\n\n{_ARGUMENTS}"
    return BACKBONES.register(name)(build)


resnet18 = _factory("resnet18", BasicBlock, (2, 2, 2, 2))
resnet34 = _factory("resnet34", BasicBlock, (3, 4, 6, 3))
resnet50 = _factory("resnet50", Bottleneck, (3, 4, 6, 3))
resnet101 = _factory("resnet101", Bottleneck, (3, 4, 23, 3))
wide_resnet50_2 = _factory("wide_resnet50_2", Bottleneck, (3, 4, 6, 3), bottleneck_factor=2)


@BACKBONES.register("resnet_tiny")
def resnet_tiny(
    *,
    in_channels: int = 3,
    width: int = 24,
    pool: int = 1,
    zero_init_residual: bool = False,
    weights: str | None = None,
) -> ResNet:
    """`ResNet` with about 0.3 M parameters that trains fast on a CPU, for images of 28 to 64 pixels.

    Args:
        in_channels: Number of image channels.
        width: Width of the first stage; there are three stages with one basic block each.
        pool: The last feature map is average-pooled to a pool x pool grid and flattened. 1 is global average pooling;
            2 keeps the four quadrants separate, for aligned images.
        zero_init_residual: Whether to initialize every residual branch to output zero (arXiv:1706.02677, section 5.1).
        weights: Initial weights: a state dict file, or a run folder or checkpoint; see `load_weights`. None initializes
            randomly.
    """
    widths = (width, 2 * width, 128 * width // 24)
    net = ResNet(BasicBlock, (1, 1, 1), widths, in_channels, "half", zero_init_residual, pool=pool)
    if weights is not None:
        load_weights(net, weights)
    return net
