"""What a vision transformer makes of the patches of an image, as pictures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_lib.backbones.vit import HEAD_DIM, VisionTransformer
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.report.projection import principal_components
from ssl_lib.report.run import Missing, TokenMaps
from ssl_lib.report.sample import one_per_class
from ssl_lib.views.color import normalize

__all__ = ["cls_attention", "token_maps"]

_IMAGES = 6


@torch.no_grad()
def token_maps(encoders: Mapping[str, nn.Module], sample: ArrayData, device: torch.device) -> TokenMaps | Missing:
    """Patch tokens as colors, and the attention of the CLS token as brightness.

    Red, green and blue are the tokens' three main directions, jointly over the images shown. The attention is that of
    the last block, the mean of its heads, each image's brightest patch white.

    Args:
        encoders: By subject, on the device.
        sample: Square images.
        device: Where to compute.
    """
    networks = {title: encoder for title, encoder in encoders.items() if isinstance(encoder, VisionTransformer)}
    if len(networks) < len(encoders):
        return Missing("The backbone has no patch tokens: there are maps for this library's vision transformers.")
    indices = one_per_class(sample.labels, len(sample), _IMAGES)
    images = normalize(sample.gather(torch.tensor(indices)).to(device).float() / 255, sample.mean, sample.std)
    maps, attention = {}, {}
    for title, network in networks.items():
        heeded, tokens = cls_attention(network, images)
        side = int(tokens.shape[1] ** 0.5)
        colors = principal_components(tokens.float().cpu().flatten(0, 1), 3)
        low, high = colors.quantile(0.02, dim=0), colors.quantile(0.98, dim=0)
        colors = (colors - low) / (high - low).clamp_min(1e-12)
        maps[title] = _bytes(colors).view(len(indices), side, side, 3).permute(0, 3, 1, 2)
        heeded = heeded.float().cpu().mean(1)
        attention[title] = _bytes(heeded / heeded.amax(1, keepdim=True)).view(len(indices), 1, side, side)
    return TokenMaps(indices, maps, attention)


def cls_attention(network: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """How much the CLS token heeds each patch in the last block, as in DINO's figures (arXiv:2104.14294, figure 1).

    Args:
        network: In eval mode.
        images: (N, C, H, W), each side a multiple of the patch size.

    Returns:
        Shares (N, heads, P), in rows from the top left, to which those of CLS itself and of the registers are missing
        to 1; and the patch tokens (N, P, dim).
    """
    kept: list[Tensor] = []
    last = network.blocks[-1].get_submodule("attn.qkv")
    handle = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        tokens = network.tokens(images)[1]
    finally:
        handle.remove()
    q, k, _ = kept[0].unflatten(2, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)  # each (N, heads, L, 64)
    weights = (q[:, :, :1] @ k.transpose(2, 3) * HEAD_DIM**-0.5).softmax(3)  # (N, heads, 1, L)
    return weights[:, :, 0, -tokens.shape[1] :], tokens


def _bytes(shares: Tensor) -> Tensor:
    return shares.clamp(0, 1).mul(255).round().byte()
