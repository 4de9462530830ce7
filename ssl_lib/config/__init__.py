"""Configs: YAML in, checked dataclasses out."""

from ssl_lib.config.load import load_config, parse_config, to_yaml
from ssl_lib.config.run_config import Component, EvaluationConfig, RunConfig

__all__ = [
    "Component",
    "EvaluationConfig",
    "RunConfig",
    "load_config",
    "parse_config",
    "to_yaml",
]
