"""ONNX and torch.export refuse networks that they cannot represent, and leave no file."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import ConfigError
from ssl_lib.export import export
from tests.export.helper import check, photographs, skip_without_packages, tiny


def test_network_with_data_dependent_branch_raises_and_leaves_no_file(tmp_path):
    class Branching(torch.nn.Module):
        out_dim = 1

        def forward(self, images):
            return images.flatten(1)[:, :1] if images.sum().item() > 0 else images.flatten(1)[:, 1:2]

    model = tiny()
    model.net = Branching()
    with pytest.raises(ConfigError, match=r"torch .* cannot export resnet_tiny as a torch\.export program: "):
        export(model, "torch_export", tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_onnx_graph_with_different_features_is_not_written(tmp_path):
    skip_without_packages("onnx")

    class Noisy(torch.nn.Sequential):
        out_dim = 8

        def forward(self, images):
            features = super().forward(images)
            return features + torch.rand_like(features)

    model = tiny()
    model.net = Noisy(model.net)
    with pytest.raises(ConfigError, match="as an ONNX graph: the graph's features differ from the network's by"):
        export(model, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("branching", [False, True])
def test_torchscript_exporter_is_the_fallback_except_for_branches(branching, tmp_path, monkeypatch):
    """The TorchScript exporter would silently keep only one branch of a network."""
    skip_without_packages("onnx")
    onnx_export = torch.onnx.export

    def fail_with_dynamo(*arguments, dynamo, **options):
        if dynamo:
            raise AttributeError("'tuple' object has no attribute 'dtype'")
        return onnx_export(*arguments, dynamo=dynamo, **options)

    class Branching(torch.nn.Sequential):
        out_dim = 8

        def forward(self, images):
            features = super().forward(images)
            return features if images.sum().item() > 0 else -features

    monkeypatch.setattr(torch.onnx, "export", fail_with_dynamo)
    model = tiny()
    if not branching:
        check(export(model, "onnx", tmp_path / "a.onnx"), model, photographs(tmp_path))
        return
    model.net = Branching(model.net)
    with pytest.raises(ConfigError, match="cannot export resnet_tiny as an ONNX graph"):
        export(model, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
