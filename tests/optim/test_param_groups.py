"""Parameter groups with and without weight decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lib.optim import param_groups


class Network(nn.Module):
    """Has tokens, a scale, a matrix named bias, norm layers, shared and frozen parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.scale = nn.Parameter(torch.ones(()))
        self.relative = nn.Module()
        self.relative.bias = nn.Parameter(torch.zeros(3, 3))
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))
        self.twin = self.encoder[2]
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_biases_and_vectors_are_not_decayed_as_in_dino():
    module = Network()
    decayed, undecayed = param_groups(module, 0.1)
    names = {parameter: name for name, parameter in module.named_parameters()}
    assert [names[p] for p in decayed["params"]] == ["cls_token", "encoder.0.weight", "encoder.2.weight"]
    assert [names[p] for p in undecayed["params"]] == [
        "scale",
        "relative.bias",
        "encoder.0.bias",
        "encoder.1.weight",
        "encoder.1.bias",
        "encoder.2.bias",
    ]
    assert (decayed["weight_decay"], decayed["adapt"]) == (0.1, True)
    assert (undecayed["weight_decay"], undecayed["adapt"]) == (0.0, False)


def test_empty_groups_are_left_out():
    assert [group["adapt"] for group in param_groups(nn.Linear(2, 2, bias=False), 0.1)] == [True]
    assert [group["adapt"] for group in param_groups(nn.BatchNorm2d(2), 0.1)] == [False]


def test_negative_decay_or_no_trainable_parameter_raises():
    with pytest.raises(ValueError, match="weight_decay must be at least 0, got -1"):
        param_groups(nn.Linear(2, 2), -1)
    with pytest.raises(ValueError, match="Linear has no trainable parameter"):
        param_groups(nn.Linear(2, 2).requires_grad_(False), 0.1)
