"""Projects features to the plane with UMAP, t-SNE or PCA."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.errors import ConfigError
from ssl_lib.evaluation.eigenvalues import eigenvectors
from ssl_lib.utils.optional import missing_package

__all__ = ["PROJECTIONS", "choose_projection", "principal_components", "project"]


@torch.no_grad()
def principal_components(features: Tensor, count: int) -> Tensor:
    """Returns the coordinates (N, count) of features (N, D) along their principal components, computed in float64.

    The largest absolute coordinate of each component is positive, so that the same features always give the same map.
    If there are fewer components, the other coordinates are zero.
    """
    x = features.double()
    x = x - x.mean(0)
    if len(x) < x.shape[1]:  # the smaller of the two Gram matrices
        values, vectors = eigenvectors(x @ x.T)
        places = vectors * values.clamp_min(0).sqrt()
    else:
        places = x @ eigenvectors(x.T @ x)[1]
    places = places.flip(1)[:, :count]
    largest = places.gather(0, places.abs().argmax(0, keepdim=True))
    places = places * torch.where(largest < 0, -1.0, 1.0)
    return F.pad(places, (0, count - places.shape[1]))


def _tsne(features: Tensor) -> Tensor:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    model = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
    return torch.from_numpy(model.fit_transform(features.numpy()))


def _umap(features: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed disables threads
        from umap import UMAP

        model = UMAP(metric="cosine", n_neighbors=min(15, len(features) - 1), random_state=0, init="random")
        return torch.from_numpy(model.fit_transform(features.numpy()))


PROJECTIONS: dict[str, tuple[str, str, Callable[[Tensor], Tensor]]] = {
    "umap": ("UMAP", "umap", _umap),
    "tsne": ("t-SNE", "sklearn", _tsne),
    "pca": ("PCA", "torch", lambda features: principal_components(features, 2)),
}
"""Projections by name: title, required module and function (N, D) -> (N, 2). The first installed one is the default."""


def choose_projection(name: str | None) -> str:
    """Returns the name, or for None the first projection that is installed.

    Raises:
        ConfigError: The projection is unknown or its package is missing.
    """
    if name is None:
        return next(key for key, (_, module, _) in PROJECTIONS.items() if importlib.util.find_spec(module))
    if name not in PROJECTIONS:
        raise ConfigError(f"--map: unknown projection {name!r}. Known: {', '.join(PROJECTIONS)}")
    module = PROJECTIONS[name][1]
    if not importlib.util.find_spec(module):
        package = {"umap": "umap-learn", "sklearn": "scikit-learn"}[module]
        raise ConfigError(f"--map {name} {missing_package(package)}; --map pca needs no other package")
    return name


def project(features: Tensor, name: str) -> Tensor:
    """Projects features (N, D) to (N, 2); fewer than 8 images always by PCA."""
    return (PROJECTIONS[name] if len(features) >= 8 else PROJECTIONS["pca"])[2](features.float()).float()
