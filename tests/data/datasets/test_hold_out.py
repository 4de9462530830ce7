"""Training images that are held out for the evaluation if there are no test images with labels."""

from __future__ import annotations

import pytest

from ssl_lib.data import FolderData, image_folder
from ssl_lib.data.base import DataWarning
from tests.data.datasets.test_layout import classes, names, tree


def images_of_three_classes(root):
    counts = {"a": 40, "b": 10, "c": 1}
    return tree(root, *[f"{label}/{index:02}.png" for label in counts for index in range(counts[label])])


def test_class_folders_without_test_split_hold_out_a_fraction_of_each_class(tmp_path):
    images_of_three_classes(tmp_path)
    with pytest.warns(DataWarning, match=r"no labeled test split, so 5 of 51 images, .* data\.hold_out=0") as found:
        train = image_folder(tmp_path)
    test = image_folder(tmp_path, split="test")
    assert len(found) == 1
    assert [classes(test).count(label) for label in "abc"] == [4, 1, 0] and test.class_names == ("a", "b", "c")
    assert sorted(names(train) + names(test)) == names(FolderData(tmp_path))
    assert names(test) == names(image_folder(tmp_path, split="test"))
    larger = image_folder(tmp_path, hold_out=0.5, split="test")
    assert len(larger) == 25 and set(names(test)) <= set(names(larger))
    assert len(image_folder(tmp_path, hold_out=0)) == 51 and image_folder(tmp_path, hold_out=0, split="test") is None
    with pytest.raises(ValueError, match=r"hold_out must be a fraction in \[0, 1\), got 1"):
        image_folder(tmp_path, hold_out=1)


def test_hold_out_of_the_bank_if_the_training_images_have_no_labels(tmp_path):
    images_of_three_classes(tmp_path / "bank")
    tree(tmp_path, "wild/1.png")
    roots = {"root": tmp_path / "wild", "bank_root": tmp_path / "bank"}
    assert len(image_folder(**roots)) == 1
    with pytest.warns(DataWarning, match="bank: no labeled test split"):
        bank = image_folder(**roots, split="bank")
    test = image_folder(**roots, split="test")
    assert (len(bank), len(test)) == (46, 5) and not set(names(bank)) & set(names(test))


def test_classes_of_one_image_hold_out_nothing(tmp_path):
    tree(tmp_path, "a/1.png", "b/1.png")
    with pytest.warns(DataWarning, match="no class has two images or more, so none is held out for evaluation"):
        assert len(image_folder(tmp_path)) == 2 and image_folder(tmp_path, split="test") is None


@pytest.mark.parametrize("folder", ["test", "Val"])
def test_if_the_test_images_have_no_labels_training_images_are_held_out(tmp_path, folder, monkeypatch):
    images_of_three_classes(tmp_path / "train")
    tree(tmp_path, f"{folder}/1.png")
    with pytest.warns(DataWarning) as shown:
        parts = {split: image_folder(tmp_path, split=split) for split in ("train", "test", "bank")}
    assert [str(warning.message).partition(" images")[0] for warning in shown] == [
        f"{tmp_path / folder}: not used for evaluation: it needs one subfolder per class, or data.test_labels",
        f"{tmp_path / 'train'}: no labeled test split, so 5 of 51",
    ]
    train = tmp_path / "train"
    assert names(parts["train"]) == names(image_folder(train)) and parts["bank"] is None
    assert names(parts["test"]) == names(image_folder(train, split="test"))
    assert image_folder(tmp_path, hold_out=0, split="test") is None and len(image_folder(tmp_path, hold_out=0)) == 51
    monkeypatch.setattr("ssl_lib.data.base.rank", lambda: 1)  # only rank 0 warns
    assert names(image_folder(tmp_path, split="test")) == names(parts["test"])


def test_one_class_folder_of_the_test_images_is_enough_if_the_classes_are_known(tmp_path):
    images_of_three_classes(tmp_path / "train")
    tree(tmp_path, "test/b/1.png")
    assert len(image_folder(tmp_path)) == 51
    assert classes(image_folder(tmp_path, split="test")) == ["b"]
