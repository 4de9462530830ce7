"""Vision transformer (ViT) backbones, with the state dict keys of timm and DINO."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ssl_lib.backbones.positions import resize_positions
from ssl_lib.backbones.weights import load_weights
from ssl_lib.registry import BACKBONES

__all__ = ["VisionTransformer", "vit_base", "vit_micro", "vit_small", "vit_tiny"]

HEAD_DIM = 64


class VisionTransformer(nn.Module):
    """Pre-norm vision transformer that maps images to a CLS token and patch tokens.

    Architecture and initialization follow dino/vision_transformer.py (MLP ratio 4, biases everywhere, LayerNorm with
    eps 1e-6, truncated normal with std 0.02); registers follow "Vision Transformers Need Registers" (arXiv:2309.16588).
    Attention heads have width 64. Images may have any size divisible by the patch size; position embeddings are
    interpolated.

    Args:
        dim: Width of the tokens, a multiple of 64.
        depth: Number of blocks.
        patch_size: Patch size in pixels.
        image_size: Size in pixels of the square images for which the position embeddings are created.
        in_channels: Number of image channels.
        drop_path: Stochastic depth rate of the last block, in [0, 1); increases linearly from 0 in the first block.
        registers: Number of register tokens after CLS, without position embedding; they are not returned.

    Attributes:
        out_dim: Width of the features, `dim`.

    Raises:
        ValueError: An argument is out of range, or a size is not divisible.
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
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
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
            ValueError: The image size is not a multiple of the patch size.
        """
        return self.tokens(images)[0]

    def tokens(
        self, images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W) to their normalized CLS and patch tokens.

        Args:
            images: (N, C, H, W), with H and W multiples of the patch size.
            masks: (N, P) bool, True for patches to mask, in row-major order.
            mask_token: (dim,), replaces the masked patches before position embeddings are added (iBOT, SimMIM). It is a
                parameter of the method, so that other methods have no unused parameter in the backbone.

        Returns:
            The CLS tokens (N, dim) and the patch tokens (N, P, dim), P = H / patch_size * W / patch_size.

        Raises:
            ValueError: The image size is not a multiple of the patch size, masks have the wrong shape or dtype, or only
                one of masks and mask_token is given.
        """
        grid = self._grid_of(*images.shape[-2:])
        x = self.patch_embed(images).flatten(2).transpose(1, 2)  # (N, P, dim)
        if masks is not None or mask_token is not None:
            x = _mask_patches(x, masks, mask_token)
        positions = self._positions(grid)
        prefix = [self.cls_token + positions[:, :1]]
        if self.reg_token is not None:
            prefix.append(self.reg_token)
        # x.shape[0] instead of len(x), which would be a constant in an exported graph
        head = torch.cat(prefix, dim=1).expand(x.shape[0], -1, -1)
        x = torch.cat((head, x + positions[:, 1:]), dim=1)  # (N, 1 + registers + P, dim)
        x = self.norm(self.blocks(x))
        return x[:, 0], x[:, head.shape[1] :]

    def at_size(self, image_size: int) -> VisionTransformer:
        """Returns a copy with position embeddings interpolated once to square images of another size.

        The copy computes the same features for such images without interpolating in each forward pass.

        Raises:
            ValueError: The size is not a multiple of the patch size.
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
        """Returns position embeddings (1, 1 + P, dim) for a grid of patches."""
        if grid == self.grid:
            return self.pos_embed
        return torch.cat((self.pos_embed[:, :1], resize_positions(self.pos_embed[:, 1:], self.grid, grid)), dim=1)


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


def _mask_patches(x: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
    if masks is None or mask_token is None:
        raise ValueError("masks and mask_token go together: give both or neither")
    if masks.shape != x.shape[:2] or masks.dtype != torch.bool:
        raise ValueError(f"masks must be bool {tuple(x.shape[:2])}, got {masks.dtype} {tuple(masks.shape)}")
    return torch.where(masks.unsqueeze(2), mask_token.to(x.dtype), x)


_ARGUMENTS = """\
Args:
    patch_size: Patch size in pixels.
    image_size: Image size in pixels for which the position embeddings are created; for other sizes they are
        interpolated.
    in_channels: Number of image channels.
    drop_path: Stochastic depth rate of the last block, in [0, 1); increases linearly from 0 in the first block.
    registers: Number of register tokens, which take part in attention but are not returned (arXiv:2309.16588).
    weights: Initial weights: a state dict file, or a run folder or checkpoint; see `load_weights`. None initializes
        randomly.
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
    build.__doc__ = f"`VisionTransformer` with dim {dim}, depth {depth}.\n\n{_ARGUMENTS}"
    return BACKBONES.register(name)(build)


vit_tiny = _factory("vit_tiny", 192)
vit_small = _factory("vit_small", 384)
vit_base = _factory("vit_base", 768)
vit_micro = _factory("vit_micro", 128, depth=4, patch=4, image=28)  # for the CPU, on images of 28 to 64 pixels
