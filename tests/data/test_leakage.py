from __future__ import annotations

import io
import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets.folder import default_loader

from ssl_lib import Evaluator
from ssl_lib.cli.common import find_config
from ssl_lib.config.load import load_config
from ssl_lib.config.resolve import resolve
from ssl_lib.data import ArrayData, FolderData, ShardData, huggingface, leakage
from ssl_lib.data.base import DataWarning
from ssl_lib.data.datasets.wrapped import as_image_data
from ssl_lib.data.leakage import shared_images, warn_of_shared_images
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.evaluation import KNN
from ssl_lib.experiment.build import build_views
from ssl_lib.experiment.evaluator import build_evaluator
from tests.conftest import TinyBackbone
from tests.data.shard_samples import write

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Four images with different pixels and files of one size."""
    for name in "abcd":
        save(tmp_path / "train" / f"{name}.bmp")
    (tmp_path / "test").mkdir()
    return tmp_path


def save(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("place", [shutil.copyfile, os.symlink, os.link])
def test_copies_and_links_are_found_among_files_of_one_size(folder, place):
    save(folder / "test" / "new.bmp")
    place(folder / "train" / "c.bmp", folder / "test" / "old.bmp")
    train, test = FolderData(folder / "train"), FolderData(folder / "test")
    assert shared_images(train, test) == [(1, 2)]
    with pytest.warns(UserWarning, match=r"1 of 2 test images are also training images, such as old\.bmp and c\.bmp"):
        warn_of_shared_images(train, test)


def test_same_folder_by_another_path(folder):
    (folder / "link").symlink_to(folder / "train")
    pairs = shared_images(FolderData(folder / "train"), FolderData(folder / "link"))
    assert pairs == [(index, index) for index in range(4)]


def test_different_images_are_not_reported(folder, recwarn):
    save(folder / "test" / "a.bmp")
    warn_of_shared_images(FolderData(folder / "train"), FolderData(folder / "test"))
    assert not recwarn


def test_pages_of_one_file_are_different_images(tmp_path):
    for split, first in (("train", 0), ("test", 0)):
        pages = [Image.new("L", (5, 5), first + page) for page in range(3)]
        (tmp_path / split).mkdir()
        pages[0].save(tmp_path / split / "a.tif", save_all=True, append_images=pages[1:])
    train, test = (FolderData(tmp_path / split, 1, pages="all") for split in ("train", "test"))
    assert shared_images(train, test) == [(0, 0), (1, 1), (2, 2)]


def test_arrays_are_compared_by_their_pixels():
    images = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    train, test = ArrayData(images[:4]), ArrayData(images[[5, 2, 4]])
    assert shared_images(train, test) == [(1, 2)]
    assert shared_images(train, ArrayData(images[4:])) == []
    assert shared_images(train, train) == [(index, index) for index in range(4)]


def test_arrays_of_other_shapes_and_types_are_different():
    train = ArrayData(np.zeros((1, 4, 4), np.uint8))
    assert shared_images(train, ArrayData(np.zeros((1, 2, 8), np.uint8))) == []
    assert shared_images(train, ArrayData(np.zeros((1, 4, 1), np.float32))) == []  # as many bytes


def test_copies_are_counted_even_if_another_image_has_the_same_path(folder):
    shutil.copyfile(folder / "train" / "a.bmp", folder / "train" / "copy.bmp")
    whole = FolderData(folder / "train")
    assert whole.name(3) == "copy.bmp"
    train, test = whole.subset(torch.tensor([0, 1, 2])), whole.subset(torch.tensor([1, 3, 4]))
    assert shared_images(train, test) == [(0, 1), (1, 0)]


def test_names_with_a_number_sign_are_no_pages(folder):
    (folder / "train" / "a.bmp").rename(folder / "train" / "a#1.bmp")
    shutil.copyfile(folder / "train" / "a#1.bmp", folder / "test" / "z.bmp")
    train, test = FolderData(folder / "train"), FolderData(folder / "test")
    assert [train.name(found) for _, found in shared_images(train, test)] == ["a#1.bmp"]


def test_large_sets_are_compared_by_path_alone(folder, monkeypatch):
    monkeypatch.setattr(leakage, "_MOST", 5)
    shutil.copyfile(folder / "train" / "a.bmp", folder / "test" / "a.bmp")
    save(folder / "test" / "b.bmp")
    (folder / "link").symlink_to(folder / "train")
    train, test = FolderData(folder / "train"), FolderData(folder / "test")
    assert shared_images(train, test) == []
    assert len(shared_images(train, FolderData(folder / "link"))) == 4


def test_missing_files_are_left_to_the_reader(folder):
    shutil.copytree(folder / "train", folder / "test", dirs_exist_ok=True)
    train, test = FolderData(folder / "train"), FolderData(folder / "test")
    (folder / "test" / "b.bmp").unlink()
    assert shared_images(train, test) == [(0, 0), (2, 2), (3, 3)]


def test_evaluator_warns_of_test_images_among_the_training_images():
    """Without a warning, 100 % on noise looks like a good result."""
    images = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = RNG.integers(0, 4, 40)
    train = ArrayData(images, labels, mean=(0.5,), std=(0.25,))
    settings = {"protocols": [KNN(k=1, also=())], "random_encoder": TinyBackbone()}
    with pytest.warns(DataWarning, match="10 of 10 test images are also training images, such as 0 and 5"):
        evaluator = Evaluator(train, ArrayData(images[5:15], labels[5:15]), **settings)
    assert evaluator(TinyBackbone())["raw pixels"]["knn"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        Evaluator(train, ArrayData(255 - images[:10], labels[:10]), **settings)


def test_shards_and_torch_data_sets_that_are_the_same_are_found(tmp_path):
    write(tmp_path / "a.tar", [(f"{index}.png", png(index)) for index in range(4)])
    (tmp_path / "link.tar").symlink_to(tmp_path / "a.tar")
    one, other = ShardData(str(tmp_path / "a.tar")), ShardData(str(tmp_path / "link.tar"))
    assert shared_images(one, other) == [(index, index) for index in range(4)]
    wrapped = [Image.new("RGB", (8, 8)) for _ in range(3)]
    assert len(shared_images(as_image_data(wrapped), as_image_data(wrapped))) == 3
    assert shared_images(as_image_data(wrapped), as_image_data(list(wrapped))) == []


def png(value):
    """The content of a PNG file."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


class Paths(torch.utils.data.Dataset):
    """Images with their paths, as in torchvision's folders."""

    def __init__(self, *paths):
        self.samples = [(str(path), 0) for path in paths]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return default_loader(self.samples[index][0]), 0


def test_kinds_of_data_sets_are_compared_with_each_other(folder, tmp_path):
    files = [folder / "train" / f"{name}.bmp" for name in "abcd"]
    write(tmp_path / "a.tar", [(f"{path.stem}.bmp", path.read_bytes()) for path in files[1:]])
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    sets = {
        "folder": FolderData(folder / "train"),
        "shard": ShardData(str(tmp_path / "a.tar")),
        "copied shard": ShardData(str(tmp_path / "b.tar")),
        "torch": as_image_data(Paths(*files)),
        "subset": as_image_data(Subset(ConcatDataset([Paths(files[3]), Paths(*files[:3])]), [1, 2, 3])),
    }
    held = {"folder": "abcd", "shard": "bcd", "copied shard": "bcd", "torch": "abcd", "subset": "abc"}
    for train in sets:
        for test in sets:
            pairs = shared_images(sets[train], sets[test])
            assert pairs == [(held[test].index(x), held[train].index(x)) for x in held[test] if x in held[train]]
    other = as_image_data(Paths(*files))
    assert other.dataset is not sets["torch"].dataset and len(shared_images(other, sets["torch"])) == 4


def test_images_of_hugging_face_tables_are_compared(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    for name, letters in (("one", "abc"), ("two", "xc")):
        save(folder / "train" / "x.bmp")
        rows = [{"bytes": (folder / "train" / f"{x}.bmp").read_bytes(), "path": None} for x in letters]
        datasets.Dataset.from_dict({"image": rows}, features=features).save_to_disk(tmp_path / name)
    one, two = huggingface(tmp_path / "one"), huggingface(tmp_path / "two")
    assert shared_images(one, two) == [(1, 2)]
    assert shared_images(FolderData(folder / "train"), one) == [(0, 0), (1, 1), (2, 2)]


def test_unlabeled_training_images_are_compared_with_the_test_images(tmp_path):
    for name in ("bank/a/1.png", "bank/b/2.png", "test/a/3.png", "test/b/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / name)
    shutil.copytree(tmp_path / "test", tmp_path / "wild/copies")
    roots = {"root": "wild", "bank_root": "bank", "test_root": "test"}
    data = {"name": "image_folder", **{key: str(tmp_path / name) for key, name in roots.items()}}
    changes = {"data": data, "evaluation": {"knn": {"k": 1}, "linear": None}}
    config = resolve(load_config(find_config("quickstart"), changes))
    train, views = build_views(config)
    with pytest.warns(DataWarning, match=r"2 of 2 test images are also .* such as a/3\.png and copies/a/3\.png"):
        build_evaluator(config, train, views, Preprocessing.of(train, 12))


def test_overlapping_subsets_share_images_by_position():
    base = torch.utils.data.TensorDataset(torch.randint(256, (40, 3, 4, 4), dtype=torch.uint8))
    train, test = (
        as_image_data(Subset(base, range(30))),
        as_image_data(Subset(ConcatDataset([base]), [38, 20, -40, -1])),
    )
    assert shared_images(train, test) == [(1, 20), (2, 0)]


def test_data_sets_with_other_attributes_of_these_names_are_no_files(recwarn):
    class Odd(torch.utils.data.TensorDataset):
        file, samples = "a file of HDF5", [("a", 0)]

    one, two = (as_image_data(Odd(torch.randint(256, (4, 3, 4, 4), dtype=torch.uint8))) for _ in range(2))
    assert shared_images(one, two) == [] and one.content(1) is None and one.file_size(1) == 0
