"""Vision transformers, with the state-dict names of timm and DINO."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ssl_lib.backbones.weights import load_weights
from ssl_lib.registry import BACKBONES

__all__ = ["VisionTransformer", "vit_base", "vit_micro", "vit_small", "vit_tiny"]

HEAD_DIM = 64


class VisionTransformer(nn.Module):
    """A pre-norm vision transformer: images to a CLS token, and to patch tokens.

    Architecture and initialization as in dino/vision_transformer.py (MLP ratio 4, biases everywhere, LayerNorm with
    eps 1e-6, truncated normal of std 0.02), registers as in "Vision Transformers Need Registers" (arXiv 2309.16588).
    Attention heads are 64 wide. An image may have any size that the patch size divides; position embeddings are
    interpolated to it.

    Args:
        dim: Width of a token, a multiple of 64.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        image_size: Side in pixels of the square image whose patches have a position embedding each.
        in_channels: Channels of an image.
        drop_path: Probability in [0, 1) that a sample skips a branch of the last block; grows linearly from 0 in the
            first (stochastic depth).
        registers: Extra tokens behind CLS, without position, that no output shows.

    Attributes:
        out_dim: Width of the features, `dim`.

    Raises:
        ValueError: A size does not divide, or the drop path rate is out of range.
    """

    def __init__(
        self,
        dim: int,
        depth: int = 12,
        patch_size: int = 16,
        image_size: int = 224,
        in_channels: int = 3,
        drop_path: float = 0.0,
        registers: int = 0,
    ) -> None:
        super().__init__()
        if dim % HEAD_DIM or dim <= 0:
            raise ValueError(f"dim must be a multiple of {HEAD_DIM}, the width of a head, got {dim}")
        if not 0.0 <= drop_path < 1.0:
            raise ValueError(f"drop_path must lie in [0, 1), got {drop_path}")
        if registers < 0:
            raise ValueError(f"registers must not be negative, got {registers}")
        self.out_dim = dim
        self.patch_size = patch_size
        self.grid = self._grid_of(image_size, image_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.reg_token = nn.Parameter(torch.empty(1, registers, dim)) if registers else None
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], dim))  # CLS first
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(in_channels, dim, patch_size, patch_size)))
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.Sequential(*(_Block(dim, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.reg_token is not None:
            nn.init.normal_(self.reg_token, std=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to their normalized CLS tokens (N, dim).

        Raises:
            ValueError: The patch size does not divide the image.
        """
        return self.tokens(images)[0]

    def tokens(
        self, images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W) to all their normalized tokens.

        Args:
            images: (N, C, H, W), each side a multiple of the patch size.
            masks: (N, P) bool, True for the patches, in rows from the top left, that the network shall not see.
            mask_token: (dim,), stands in for the hidden patches before the positions are added (iBOT, SimMIM). It
                belongs to the method that masks, so that a backbone trained otherwise has no unused parameter.

        Returns:
            The CLS tokens (N, dim) and the patch tokens (N, P, dim), P = H / patch_size * W / patch_size.

        Raises:
            ValueError: The patch size does not divide the image, or masks and mask_token do not fit.
        """
        grid = self._grid_of(*images.shape[-2:])
        x = self.patch_embed(images).flatten(2).transpose(1, 2)  # (N, P, dim)
        if masks is not None or mask_token is not None:
            x = _hide(x, masks, mask_token)
        positions = self._positions(grid)
        prefix = [self.cls_token + positions[:, :1]]
        if self.reg_token is not None:
            prefix.append(self.reg_token)
        head = torch.cat(prefix, dim=1).expand(x.shape[0], -1, -1)  # len(x) would be a constant in an exported graph
        x = torch.cat((head, x + positions[:, 1:]), dim=1)  # (N, 1 + registers + P, dim)
        x = self.norm(self.blocks(x))
        return x[:, 0], x[:, head.shape[1] :]

    def at_size(self, image_size: int) -> VisionTransformer:
        """A copy made for square images of another side: their features are the same, with nothing to interpolate.

        Raises:
            ValueError: The patch size does not divide it.
        """
        net = copy.deepcopy(self)
        net.grid = self._grid_of(image_size, image_size)
        net.pos_embed = nn.Parameter(self._positions(net.grid).detach().clone(), self.pos_embed.requires_grad)
        return net

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {self.patch_size}; "
                "choose a view size that is a multiple of patch_size, or another patch_size"
            )
        return height // self.patch_size, width // self.patch_size

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings (1, 1 + P, dim) of a grid of patches.

        Bicubic without antialiasing, the grid enlarged by 0.1 in the scale: dino/vision_transformer.py does so, and
        its checkpoints then give the same features at every size.
        """
        if grid == self.grid:
            return self.pos_embed
        patches = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, *self.grid)
        scale = [(new + 0.1) / old for new, old in zip(grid, self.grid, strict=True)]
        patches = F.interpolate(patches.float(), scale_factor=scale, mode="bicubic").to(patches.dtype)
        return torch.cat((self.pos_embed[:, :1], patches.flatten(2).transpose(1, 2)), dim=1)


class _Block(nn.Module):
    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim)))
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor) -> Tensor:  # (N, L, dim)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class _Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # (N, L, dim)
        q, k, v = self.qkv(x).unflatten(2, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)  # each (N, heads, L, 64)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def _hide(x: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
    if masks is None or mask_token is None:
        raise ValueError("masks and mask_token go together: give both or neither")
    if masks.shape != x.shape[:2] or masks.dtype != torch.bool:
        raise ValueError(f"masks must be bool {tuple(x.shape[:2])}, got {masks.dtype} {tuple(masks.shape)}")
    return torch.where(masks.unsqueeze(2), mask_token.to(x.dtype), x)


_ARGUMENTS = """\
Args:
    patch_size: Side of the square patches in pixels.
    image_size: Side of the images that the positions are made for; those of others are resampled.
    in_channels: Channels of an image.
    drop_path: Rate of stochastic depth in the last block, in [0, 1), rising linearly from 0 in the first.
    registers: Number of further tokens that take part in attention and are then dropped (arXiv:2309.16588).
    weights: Where to start: a state dict's file, or a run's folder or checkpoint, see `load_weights`; None starts at
        random.
"""


def _factory(
    name: str, dim: int, depth: int = 12, patch: int = 16, image: int = 224
) -> Callable[..., VisionTransformer]:
    def build(
        *,
        patch_size: int = patch,
        image_size: int = image,
        in_channels: int = 3,
        drop_path: float = 0.0,
        registers: int = 0,
        weights: str | None = None,
    ) -> VisionTransformer:
        net = VisionTransformer(dim, depth, patch_size, image_size, in_channels, drop_path, registers)
        if weights is not None:
            load_weights(net, weights)
        return net

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"A `VisionTransformer` with dim {dim}, depth {depth}.\n\n{_ARGUMENTS}"
    return BACKBONES.register(name)(build)


vit_tiny = _factory("vit_tiny", 192)
vit_small = _factory("vit_small", 384)
vit_base = _factory("vit_base", 768)
vit_micro = _factory("vit_micro", 128, depth=4, patch=4, image=28)  # for the CPU, on images of 28 to 64 pixels
