"""Hugging Face data sets, saved to disk by the tests; nothing is downloaded."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import ConfigError, DataError
from ssl_lib.data import huggingface

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
LABELS = [2, 0, 1, 1, 0, 2]


@pytest.fixture
def saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])})
    rows = {"image": [Image.fromarray(pixels) for pixels in PIXELS], "label": LABELS}
    tables = {"train": datasets.Dataset.from_dict(rows, features=features)}
    tables["validation"] = tables["train"].select([3, 4])
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def test_images_labels_and_class_names_equal_the_saved_data(saved):
    data = huggingface(saved)
    assert (len(data), data.channels, data.class_names) == (6, 3, ("ant", "bee", "cat"))
    assert data.labels.tolist() == LABELS
    assert torch.equal(data.read(4), torch.from_numpy(PIXELS[4]).permute(2, 0, 1))
    test = huggingface(saved, test_split="validation", split="test")
    assert test.labels.tolist() == [1, 0]
    assert torch.equal(test.read(0), torch.from_numpy(PIXELS[3]).permute(2, 0, 1))
    assert huggingface(saved, split="test") is None and huggingface(saved, split="bank") is None


def test_missing_label_column_means_no_labels(saved):
    assert huggingface(saved, label="kind").labels is None
    assert huggingface(saved, label="kind", test_split="validation", split="test") is None


def test_missing_split_column_or_folder_raises_a_clear_error(saved, tmp_path):
    with pytest.raises(ConfigError, match=r"no split 'trian'\. Did you mean 'train'"):
        huggingface(saved, train_split="trian")
    with pytest.raises(ConfigError, match=r"no column 'img'\. Did you mean 'image'"):
        huggingface(saved, image="img")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: cannot be opened"):
        huggingface(tmp_path / "empty")


def test_missing_library_raises_an_error_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="pip install datasets"):
        huggingface("anything")
