"""Tests that no pickle in a checkpoint or an array is executed."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
import torch

from ssl_lib import CheckpointError, DataError, load_method
from ssl_lib.cli.common import config_folder
from ssl_lib.cli.main import main
from ssl_lib.data import arrays
from tests.security.conftest import SHORT, Payload


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
@pytest.mark.parametrize("way", ["evaluate", "resume", "load_method", "weights", "export"])
def test_malicious_checkpoint_is_never_executed(way, kind, tmp_path, capsys):
    trace, bad = tmp_path / "executed", tmp_path / "run" / "checkpoints" / "last.pt"
    bad.parent.mkdir(parents=True)
    content = {"format": 1, "step": 0, "method": Payload(trace), "config": Payload(trace)}
    if kind == "bare pickle":
        bad.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, bad, _use_new_zipfile_serialization=kind == "zip")
    if way == "load_method":
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            load_method(tmp_path / "run")
    else:
        (tmp_path / "run" / "config.yaml").write_text((config_folder() / "quickstart.yaml").read_text())
        arguments = {
            "evaluate": ["evaluate", str(bad)],
            "resume": ["train", str(tmp_path / "run"), "--resume", f"run_dir={tmp_path / 'run'}"],
            "weights": ["train", "quickstart", *SHORT, f"backbone.weights={bad}", f"run_dir={tmp_path / 'other'}"],
            "export": ["export", str(tmp_path / "run"), "--to", "safetensors"],
        }[way]
        assert main(arguments) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("ssl-lib: error: ") and "last.pt" in error
    assert not trace.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(bad, weights_only=False)
    assert trace.exists(), "the payload works"


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed npz", "labels"])
def test_arrays_of_objects_are_never_unpickled(kind, tmp_path):
    trace, path = tmp_path / "executed", tmp_path / ("set.npz" if kind.endswith("npz") else "set.npy")
    objects = np.array([Payload(trace)], dtype=object)
    if kind.endswith("npz"):
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=objects)
    else:
        np.save(path, objects)
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DataError, match="not a plain array that can be read safely"):
        arrays(images, labels=path) if kind == "labels" else arrays(path)
    assert not trace.exists()
