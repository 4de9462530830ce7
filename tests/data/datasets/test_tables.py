"""Lists of files and tables of labels of image folders."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lib.data import FolderData, image_folder
from ssl_lib.data.base import DataWarning
from ssl_lib.errors import DataError
from tests.data.datasets.test_layout import classes, names, tree


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "root", "a/1.png", "a/2.png", "b/1.png", "b/2.png")


def table(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


@pytest.mark.parametrize(
    "text",
    [
        "a/1.png\nb/2.png\n",
        "\ufeffb/2.png\r\n\r\na/1.png\r\n",
        "./a/1.png\na/../b/2.png\na/1.png",
        "{root}/a/1.png\nb/2.png",
    ],
)
def test_files_chooses_the_images(tmp_path, root, text):
    data = FolderData(root, files=table(tmp_path, text.format(root=root)))
    assert names(data) == ["a/1.png", "b/2.png"] and classes(data) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/1.png\nc/9.png\n", r"1 of 2 paths are not images in .*root, such as c/9\.png"),
        ("a/1.png \n", r"such as a/1\.png "),
        ("\n \n", "contains no paths"),
        (None, r"missing\.txt: cannot be read as text"),
    ],
)
def test_list_that_does_not_fit_is_refused(tmp_path, root, text, message):
    with pytest.raises(DataError, match=message):
        FolderData(root, files=tmp_path / "missing.txt" if text is None else table(tmp_path, text))


def test_list_with_several_roots(tmp_path):
    tree(tmp_path, "x/1.png", "x/2.png", "y/1.png", "y/3.png")
    roots = [tmp_path / "x", tmp_path / "y"]
    assert names(FolderData(roots, files=table(tmp_path, "3.png\n2.png"))) == ["x/2.png", "y/3.png"]
    assert names(FolderData(roots, files=table(tmp_path, f"{tmp_path}/y/1.png"))) == ["y/1.png"]
    with pytest.raises(DataError, match=r"1\.png is in several roots \(x/1\.png, y/1\.png\)"):
        FolderData(roots, files=table(tmp_path, "1.png"))


@pytest.mark.parametrize(
    "text",
    [
        "path,class\na/1.png,dog\nb/1.png,cat\n",
        "\ufeffpath,class\r\nb/1.png,cat\r\na/1.png,dog\r\n",
        'class,width,path\ncat,5,"b/1.png"\ndog,,a/1.png\n',
        "path, class\na/1.png, dog\nb/1.png, cat\na/1.png, dog\n",
        "path,class\n{root}/a/1.png,dog\n./b/1.png,cat",
    ],
)
def test_labels_come_from_a_table(tmp_path, root, text):
    with pytest.warns(DataWarning, match=r"2 of 4 images have no class in it and are left out"):
        data = FolderData(root, labels=table(tmp_path, text.format(root=root)))
    assert names(data) == ["a/1.png", "b/1.png"]
    assert classes(data) == ["dog", "cat"] and data.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns path and class, got None"),
        ("path,label\na/1.png,x", r"must name the columns path and class, got \['path', 'label'\]"),
        ("path;class\na/1.png;x", r"must name the columns path and class"),
        ("path,class\n", "contains no rows"),
        ("path,class\na/1.png\n", r"table\.csv, line 2: a path and a class are needed, got 'a/1\.png' and None"),
        ("path,class\na/1.png,x\n,y\n", "line 3: a path and a class are needed"),
        ("path,class\na/1,2.png,x\n", "and more columns than the first line"),
        ("path,class\na/1.png,x\na/1.png,y\n", r"line 3: a/1\.png has two classes, x and y"),
        ("path,class\na/1.png,x\n./a/1.png,y\n", r"a/1\.png has two classes, x and y"),
        ("path,class\nz.png,x\n", r"1 of 1 paths are not images"),
        (b"path,class\na/1.png,\xff\n", "cannot be read as text in UTF-8"),
    ],
)
def test_table_that_does_not_fit_is_refused(tmp_path, root, text, message):
    with pytest.raises(DataError, match=message):
        FolderData(root, labels=table(tmp_path, text))


def test_one_table_and_lists_of_the_splits(tmp_path, root):
    rows = "".join(f"{name},{kind}\n" for name, kind in zip(names(FolderData(root)), "xyyx", strict=True))
    tables = {
        "labels": table(tmp_path, "path,class\n" + rows),
        "files": table(tmp_path, "a/1.png\na/2.png", "train.txt"),
        "test_files": table(tmp_path, "b/1.png\nb/2.png", "test.txt"),
    }
    train, test = (image_folder(root, **tables, split=split) for split in ("train", "test"))
    assert (names(train), classes(train)) == (["a/1.png", "a/2.png"], ["x", "y"])
    assert (names(test), classes(test)) == (["b/1.png", "b/2.png"], ["y", "x"])


def test_test_files_in_the_root_are_not_trained_on(tmp_path, root):
    files = table(tmp_path, "a/2.png\nb/1.png", "test.txt")
    train, test = (image_folder(root, test_files=files, split=split) for split in ("train", "test"))
    assert names(train) == ["a/1.png", "b/2.png"] and names(test) == ["a/2.png", "b/1.png"]
    assert test.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="all images are test images"):
        image_folder(root, test_files=table(tmp_path, "\n".join(names(FolderData(root)))))


def test_labels_of_test_images_have_their_own_table(tmp_path, root):
    tree(tmp_path, "other/7.png")
    labels = table(tmp_path, "path,class\n" + "".join(f"{name},c{name[2]}\n" for name in names(FolderData(root))))
    given = {"labels": labels, "test_root": tmp_path / "other"}
    test = image_folder(root, **given, test_labels=table(tmp_path, "path,class\n7.png,c2\n", "t.csv"), split="test")
    assert test.class_names == ("c1", "c2") and test.labels.tolist() == [1]
    with pytest.raises(DataError, match="no class 'new'"):
        image_folder(root, **given, test_labels=table(tmp_path, "path,class\n7.png,new\n", "t.csv"), split="test")
    held = image_folder(root, labels=labels, hold_out=0.5, split="test")
    np.testing.assert_array_equal(np.bincount(held.labels), [1, 1])


def test_absolute_paths_may_go_through_links(tmp_path, root):
    (tmp_path / "link").symlink_to(root)
    for folder, path in ((root, tmp_path / "link"), (tmp_path / "link", root), (tmp_path / "link", tmp_path / "link")):
        data = FolderData(folder, files=table(tmp_path, f"{path}/a/2.png", "list.txt"))
        assert names(data) == ["a/2.png"]
