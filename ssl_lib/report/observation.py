"""Computes features, maps, neighbors, views and token maps of a run on test images, or else on training images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lib.backbones.vit import HEAD_DIM, VisionTransformer
from ssl_lib.config.resolve import BAD_ARGUMENTS
from ssl_lib.data import ImageData, evaluation_batches, preview
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.errors import ConfigError, DataError, SSLError
from ssl_lib.evaluation import RawPixels, bank_neighbors, extract_features
from ssl_lib.experiment.build import build_method, build_views
from ssl_lib.experiment.load import load_run
from ssl_lib.report.projection import PROJECTIONS, principal_components, project
from ssl_lib.report.records import Missing, Observed, PictureTable, image_title
from ssl_lib.utils.precision import resolve_device
from ssl_lib.views import ViewPipeline
from ssl_lib.views.image_grid import pixels

__all__ = ["cls_attention", "observe", "one_per_class", "token_maps"]

_IMAGES, _CLASSES = 1000, 20
_NEIGHBORS, _VIEWED, _TOKEN_IMAGES = 5, 4, 6


def observe(run: str | Path, changes: Mapping[str, Any], projection: str) -> Observed | Missing:
    """Extracts features of a sample of images with the trained weights, random weights and raw pixels.

    Raises:
        ConfigError: There are changes (see `load_run`) and the config with them is wrong.
    """
    try:
        trained = load_run(run, changes)
        train, pipeline = build_views(trained.config)
        device = resolve_device(trained.config.trainer["device"])
        queries = None if trained.evaluator is None else trained.evaluator.queries
        split, data = ("training", train) if queries is None else ("test", queries)
        sample, classes = _draw_sample(data, trained.preprocessing, trained.config.trainer["workers"])
    except (SSLError, OSError) as error:
        if changes and isinstance(error, ConfigError):
            raise  # the changes may be wrong
        return Missing(f"The weights or images could not be loaded: {error}")
    except BAD_ARGUMENTS as error:  # the user's own components have changed since training
        return Missing(f"The run could not be rebuilt: {type(error).__name__}: {error}")
    encoders = {"random init": build_method(trained.config).encoder.eval(), "trained": trained.method.encoder}
    subjects = {"raw pixels": RawPixels(), **{title: encoder.to(device) for title, encoder in encoders.items()}}
    try:
        features = {title: extract_features(encoder, sample, title=title)[0] for title, encoder in subjects.items()}
    except DataError as error:
        return Missing(f"{error}. Try an earlier checkpoint: `ssl-lib report RUN/checkpoints/FILE.pt`.")
    features["raw pixels"] -= features["raw pixels"].mean(0)  # as the evaluation does
    return Observed(
        steps=trained.steps,
        sample=sample,
        source=f"{len(sample):,} {split} images{f' of {classes} classes' if classes else ''}",
        features=features,
        places={title: project(values, projection) for title, values in features.items() if title != "raw pixels"},
        projection=PROJECTIONS[projection][0],
        neighbors={title: _neighbors(values) for title, values in features.items()},
        views=_views(train, pipeline, trained.config.seed),
        tokens=token_maps({title: subjects[title] for title in encoders}, sample, device),
    )


def _neighbors(features: Tensor) -> Tensor:
    """Returns the indices (N, k) of each image's nearest neighbors by cosine similarity, without the image itself."""
    count = min(_NEIGHBORS, len(features) - 1)
    indices = bank_neighbors(features, features, count + 1)[1]
    itself = indices == torch.arange(len(features)).unsqueeze(1)
    itself[~itself.any(1), -1] = True  # duplicates of an image can displace it from its own neighbors
    return indices[~itself].view(len(features), count)


def _views(train: ImageData, pipeline: ViewPipeline, seed: int) -> PictureTable | Missing:
    try:
        originals, batch = preview(train, pipeline, min(_VIEWED, len(train)), seed)
    except SSLError as error:
        return Missing(f"The views could not be generated: {error}")
    views = {
        f"{size} {number}": list(pixels(view, pipeline.mean, pipeline.std))
        for size, group in (("large", batch.large), ("small", batch.small))
        for number, view in enumerate(group, start=1)
    }
    return PictureTable([f"image {number}" for number in range(1, len(originals) + 1)], originals, views)


def _draw_sample(data: ImageData, preprocessing: Preprocessing, workers: int | None) -> tuple[ArrayData, int | None]:
    """Draws up to 1,000 images into memory, with a fixed seed, of up to 20 classes.

    Returns:
        The sample, and the number of classes, or None if the sample has all classes.
    """
    generator = torch.Generator().manual_seed(0)
    chosen, limit = torch.randperm(len(data), generator=generator), None
    if data.labels is not None and len(classes := data.labels.unique()) > _CLASSES:
        limit = _CLASSES
        some = classes[torch.randperm(len(classes), generator=generator)[:limit]]
        chosen = chosen[torch.isin(data.labels[chosen], some)]
    indices = chosen[:_IMAGES].sort().values
    batches = list(evaluation_batches(data, 256, workers=workers, indices=indices, preprocessing=preprocessing))
    if not batches:
        raise DataError("no image can be read")
    images = torch.cat([batch.images for batch in batches if isinstance(batch.images, Tensor)])
    labels = None if data.labels is None else data.labels[torch.cat([batch.indices for batch in batches])]
    return ArrayData(images, labels, data.class_names, preprocessing.mean, preprocessing.std), limit


def one_per_class(labels: Tensor | None, count: int, most: int) -> list[int]:
    """Returns the index of the first image of each of up to `most` classes, or evenly spaced indices without labels."""
    if labels is None:
        most = min(most, count)
        return [index * count // most for index in range(most)]
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:most]]


@torch.no_grad()
def token_maps(encoders: Mapping[str, nn.Module], sample: ArrayData, device: torch.device) -> PictureTable | Missing:
    """Renders patch tokens as colors, and the attention of the CLS token as brightness.

    Red, green and blue are the first three principal components of the tokens of all shown images. The attention is
    the mean over the heads of the last block, scaled so that each image's brightest patch is white. The columns are
    `patch tokens, SUBJECT`, with pictures (3, h, w), and `attention, SUBJECT`, with pictures (1, h, w).
    """
    networks = {title: encoder for title, encoder in encoders.items() if isinstance(encoder, VisionTransformer)}
    if len(networks) < len(encoders):
        return Missing("The backbone has no patch tokens: token maps need one of ssl_lib's vision transformers.")
    indices = one_per_class(sample.labels, len(sample), _TOKEN_IMAGES)
    images = sample.gather(torch.tensor(indices))
    inputs = Preprocessing.of(sample)(images, device)
    maps, attention = dict[str, list[Tensor]](), dict[str, list[Tensor]]()
    for title, network in networks.items():
        attended, tokens = cls_attention(network, inputs)
        side = int(tokens.shape[1] ** 0.5)
        colors = principal_components(tokens.float().cpu().flatten(0, 1), 3)
        low, high = colors.quantile(0.02, dim=0), colors.quantile(0.98, dim=0)
        colors = (colors - low) / (high - low).clamp_min(1e-12)
        maps[f"patch tokens, {title}"] = [*_bytes(colors).view(len(indices), side, side, 3).permute(0, 3, 1, 2)]
        attended = attended.float().cpu().mean(1)
        attended = attended / attended.amax(1, keepdim=True)
        attention[f"attention, {title}"] = [*_bytes(attended).view(len(indices), 1, side, side)]
    return PictureTable([image_title(sample, index) for index in indices], [*images], {**maps, **attention})


def cls_attention(network: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of the CLS token to each patch in the last block, as in DINO (arXiv:2104.14294, figure 1).

    Args:
        network: The network, in eval mode.
        images: Normalized images (N, C, H, W) whose sides are multiples of the patch size.

    Returns:
        Attention weights (N, heads, P) and patch tokens (N, P, dim), both row by row from the top left patch. The
        weights sum to less than 1 because the attention to CLS itself and to the registers is left out.
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


def _bytes(values: Tensor) -> Tensor:
    return values.clamp(0, 1).mul(255).round().byte()
