"""Heads: what stands between a backbone's features and the loss."""

from ssl_lib.heads.mlp import mlp
from ssl_lib.heads.prototypes import Prototypes

__all__ = ["Prototypes", "mlp"]
