"""Tests of `load_method`."""

from __future__ import annotations

import torch

from ssl_lib import load_method
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint


def test_load_method_needs_no_data_and_returns_eval_mode(run, tmp_path):
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    save_checkpoint(tmp_path / "moved.pt", {**saved, "config": saved["config"].replace(str(run.parent), "/gone")})
    method = load_method(tmp_path / "moved.pt")
    assert not method.training
    assert method.encoder(torch.zeros(2, 3, 12, 12)).shape == (2, method.encoder.out_dim)
    assert all(torch.equal(value, saved["method"][key]) for key, value in method.state_dict().items())
