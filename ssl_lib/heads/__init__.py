"""Projection, prediction and prototype heads, applied to the backbone's features."""

from ssl_lib.heads.mlp import mlp
from ssl_lib.heads.prototypes import Prototypes, UnitPrototypes

__all__ = ["Prototypes", "UnitPrototypes", "mlp"]
