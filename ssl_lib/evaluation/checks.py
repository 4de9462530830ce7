"""Checks of the features that metrics and protocols compute from: shapes, types and finite values."""

from __future__ import annotations

from torch import Tensor

from ssl_lib.utils.rows import check_finite

__all__ = ["check_labeled", "matrix"]


def check_labeled(features: Tensor, labels: Tensor, test_features: Tensor) -> None:
    """Raises ValueError if the shapes of features and labels do not match, or features are NaN or infinite."""
    if features.ndim != 2 or features.shape[1:] != test_features.shape[1:] or len(features) != len(labels):
        shapes = [tuple(tensor.shape) for tensor in (features, labels, test_features)]
        raise ValueError(
            "features (N, D), labels (N,) and test features (M, D) do not match: {}, {}, {}".format(*shapes)
        )
    check_finite("features", features)
    if test_features is not features:
        check_finite("test features", test_features)


def matrix(features: Tensor, name: str = "features") -> Tensor:
    """Converts features (N, D) to float64; errors contain the name.

    Raises:
        ValueError: They are not floats, not a matrix, empty, NaN or infinite.
    """
    if features.ndim != 2 or not features.is_floating_point() or not features.numel():
        raise ValueError(f"{name} must be floats (N, D), got {features.dtype} of shape {tuple(features.shape)}")
    check_finite(name, features)
    return features.double()
