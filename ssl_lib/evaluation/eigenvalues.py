"""Eigenvalues, eigenvectors and singular values of features, with a second solver for when the first one fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["eigenvectors", "singular_values", "variances"]


def variances(x: Tensor) -> Tensor:
    """Computes the covariance eigenvalues times N of x (N, D) in descending order, at most min(N, D) of them.

    Raises:
        ValueError: No solver converges.
    """
    gram = _gram(x - x.mean(0))
    return _first(lambda: torch.linalg.eigvalsh(gram).flip(0), lambda: torch.linalg.svdvals(gram)).clamp_min(0.0)


def singular_values(x: Tensor) -> Tensor:
    """Computes the singular values of x (N, D) in descending order.

    Raises:
        ValueError: No solver converges.
    """
    return _first(
        lambda: torch.linalg.svdvals(x), lambda: torch.linalg.eigvalsh(_gram(x)).flip(0).clamp_min(0.0).sqrt()
    )


def eigenvectors(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Computes eigenvalues (K,) in ascending order and eigenvectors (K, K), as columns, of a Gram matrix (K, K).

    Raises:
        ValueError: No solver converges.
    """

    def by_svd() -> Tensor:
        left, values, _ = torch.linalg.svd(gram)
        return torch.cat([values.flip(0)[None], left.flip(1)])

    def by_eigh() -> Tensor:
        values, vectors = torch.linalg.eigh(gram)
        return torch.cat([values[None], vectors])

    found = _first(by_eigh, by_svd)
    return found[0], found[1:]


def _gram(x: Tensor) -> Tensor:
    """Computes the smaller of the two Gram matrices of x (N, D)."""
    return x @ x.T if len(x) < x.shape[1] else x.T @ x


def _first(*solvers: Callable[[], Tensor]) -> Tensor:
    """Returns the values of the first solver that converges; on CUDA a solver can fail by returning NaN."""
    for solve in solvers:
        with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            values = solve()
            if values.isfinite().all():
                return values
    raise ValueError("no eigenvalue solver converges for these features; divide very large features by a constant")
