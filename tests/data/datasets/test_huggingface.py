"""Hugging Face data sets, saved to disk by the tests; nothing is downloaded."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import ConfigError, DataError
from ssl_lib.data import huggingface
from ssl_lib.data.base import DataWarning

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
    assert huggingface(saved, split="test").labels.tolist() == [1, 0]  # validation, as there is no test
    assert huggingface(saved, split="bank") is None


def test_missing_label_column_means_no_labels(saved):
    with pytest.warns(
        DataWarning, match=r"train has no column 'kind', so its images have no labels. Known: image, label"
    ):
        assert huggingface(saved, label="kind").labels is None
    with pytest.warns(DataWarning, match="validation has no column 'kind'"):
        assert huggingface(saved, label="kind", test_split="validation", split="test") is None


def test_missing_split_column_or_folder_raises_a_clear_error(saved, tmp_path):
    with pytest.raises(ConfigError, match=r"no split 'trian'\. Did you mean 'train'"):
        huggingface(saved, train_split="trian")
    with pytest.raises(ConfigError, match=r"no split 'validaton'\. Did you mean 'validation'"):
        huggingface(saved, test_split="validaton", split="test")
    with pytest.raises(ConfigError, match=r"no column 'img'\. Did you mean 'image'"):
        huggingface(saved, image="img")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: cannot be opened"):
        huggingface(tmp_path / "empty")


def test_missing_library_raises_an_error_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="pip install datasets"):
        huggingface("anything")


def table(tmp_path, labels, feature=None, images=None, **splits):
    """Saves a data set with these labels; returns its folder."""
    datasets = pytest.importorskip("datasets")
    tables = {}
    for name, values in {"train": labels, **splits}.items():
        pictures = images or [Image.fromarray(PIXELS[index % 6]) for index in range(len(values))]
        features = datasets.Features({"image": datasets.Image(), "label": feature}) if feature else None
        rows = datasets.Dataset.from_dict({"image": pictures, "label": values}, features=features)
        tables[name] = rows if features else rows.cast_column("image", datasets.Image())
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "table")
    return tmp_path / "table"


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        (["cat", "ant", "cat"], [1, 0, 1], ("ant", "cat")),
        ([2.0, 0.0, 1.0], [2, 0, 1], ()),
        ([3000, 7, 3000], [1, 0, 1], ("7", "3000")),
        ([True, False, True], [1, 0, 1], ()),
    ],
)
@pytest.mark.filterwarnings("ignore:class ids from")
def test_any_column_of_classes_gives_labels(tmp_path, values, labels, names):
    data = huggingface(table(tmp_path, values))
    assert data.labels.tolist() == labels and data.class_names == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0], [1, 2], [3]], "one class per image"),
        ([0.5, 1.0, 2.0], "fractions"),
        ([float("nan"), 1.0, 2.0], "fractions, NaN"),
        ([-2, 1, 0], "must not be negative, got -2"),
    ],
)
def test_columns_that_are_not_classes_are_refused_with_the_name_of_the_column(tmp_path, values, message):
    with pytest.raises(DataError, match=rf"train, column 'label': .*{message}.*; set data\.label"):
        huggingface(table(tmp_path, values))


@pytest.mark.parametrize("missing", [None, -1])
def test_partial_labels_are_the_bank(tmp_path, missing):
    path = table(tmp_path, [1, missing, 0, missing, 1], test=[0, 1])
    with pytest.warns(DataWarning, match=r"train: 2 of 5 images have no class; the others are used for evaluation"):
        train = huggingface(path)
    assert train.labels is None and len(train) == 5
    bank = huggingface(path, split="bank")
    assert bank.labels.tolist() == [1, 0, 1]
    for place, row in enumerate((0, 2, 4)):
        assert torch.equal(bank.read(place), torch.from_numpy(PIXELS[row]).permute(2, 0, 1))


@pytest.mark.parametrize("missing", [None, -1])
def test_columns_without_any_class_give_no_labels_and_another_split_is_the_test(tmp_path, missing):
    datasets = pytest.importorskip("datasets")
    values = [missing] * 2
    path = table(tmp_path, values, datasets.ClassLabel(names=["a", "b"]), test=values, validation=[1, 0])
    assert huggingface(path).labels is None and huggingface(path, split="bank") is None
    assert huggingface(path, split="test").labels.tolist() == [1, 0]


def test_images_of_different_modes_have_the_channels_of_the_largest(tmp_path):
    gray = Image.fromarray(PIXELS[0, ..., 0])
    data = huggingface(table(tmp_path, [0, 1], images=[gray, Image.fromarray(PIXELS[1])]))
    assert data.channels == 3
    np.testing.assert_array_equal(data.read(0).numpy(), np.stack([PIXELS[0, ..., 0]] * 3))
