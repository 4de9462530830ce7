"""What methods take from the views of a batch: the pair of views, all views by size, indices and labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lib.types import Views

__all__ = ["image_indices", "image_labels", "multi_crop", "view_pair"]


def view_pair(views: Views) -> tuple[Tensor, Tensor]:
    """Returns the two views compared by a siamese method.

    Raises:
        ValueError: There are not exactly two large views and no small ones.
    """
    if len(views.large) != 2 or views.small:
        raise ValueError(
            f"this method compares two views of each image, got {len(views.large)} large and {len(views.small)} small "
            "views: use a preset with two views, such as `views: {preset: simclr}`"
        )
    return views.large[0], views.large[1]


def multi_crop(backbone: nn.Module, views: Views) -> Tensor:
    """Returns the features (V * N, F) of all views, large ones first; views of one size share a forward pass."""
    return torch.cat([backbone(torch.cat(group)) for group in (views.large, views.small) if group])


def image_indices(views: Views) -> Tensor:
    """Returns the indices (N,) of the images in the data set.

    Raises:
        ValueError: The views have none.
    """
    if views.indices is None:
        raise ValueError("this method keeps something for every image: pass their indices, Views(..., indices=...)")
    return views.indices


def image_labels(views: Views) -> Tensor:
    """Returns the labels (N,) of the images.

    Raises:
        ValueError: The data have no labels.
    """
    if views.labels is None:
        raise ValueError("this method is supervised, but the training images have no labels: use labeled data")
    return views.labels
