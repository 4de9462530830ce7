"""Tests of `EmbeddingTable` and its file formats."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from ssl_lib.embedding import EmbeddingTable
from ssl_lib.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def make_table(count=5, labels=True, root="/photos"):
    names = np.array([f"ä/{index}.png" for index in range(count)])
    classes = np.arange(count, dtype=np.int64) % 2 if labels else None
    embeddings = RNG.normal(size=(count, 3)).astype(np.float32)
    made_of = {"images": count, "mean": [0.5], "resize": None}
    return EmbeddingTable(embeddings, names, classes, ("cat", "dog") if labels else (), root, ("ä/torn.png",), made_of)


def assert_equal(a, b):
    np.testing.assert_array_equal(a.embeddings, b.embeddings)
    np.testing.assert_array_equal(a.paths, b.paths)
    assert (a.labels is None) == (b.labels is None) and a.classes == b.classes
    assert (a.root, a.skipped, a.made_of) == (b.root, b.skipped, b.made_of)
    if a.labels is not None:
        np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize("labels", [True, False])
def test_npz_contains_plain_arrays_by_name(tmp_path, labels):
    table = make_table(labels=labels)
    table.save(tmp_path / "made" / "e.npz")
    with np.load(tmp_path / "made" / "e.npz", allow_pickle=False) as arrays:
        expected = {"embeddings", "paths", "classes", "root", "skipped", "made_of"} | ({"labels"} if labels else set())
        assert set(arrays) == expected
        assert arrays["embeddings"].dtype == np.float32 and arrays["paths"].dtype.kind == "U"
        assert str(arrays["root"]) == "/photos" and arrays["skipped"].tolist() == ["ä/torn.png"]
        assert json.loads(str(arrays["made_of"])) == table.made_of
        if labels:
            assert arrays["classes"][arrays["labels"]].tolist() == ["cat", "dog", "cat", "dog", "cat"]
    read = EmbeddingTable.load(tmp_path / "made" / "e.npz")
    assert_equal(read, table)
    assert isinstance(read.embeddings, np.memmap) and read.embeddings.flags.aligned
    assert os.listdir(tmp_path / "made") == ["e.npz"]


@pytest.mark.parametrize("labels", [True, False])
def test_parquet_is_written_in_row_groups(tmp_path, monkeypatch, labels):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("ssl_lib.embedding.storage._ROWS", 8)
    table = make_table(20, labels)
    table.save(tmp_path / "e.parquet")
    assert_equal(EmbeddingTable.load(tmp_path / "e.parquet"), table)
    with pq.ParquetFile(tmp_path / "e.parquet") as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [8, 8, 4]
        rows, metadata = file.read().to_pylist(), file.schema_arrow.metadata
    assert metadata[b"root"] == b"/photos" and json.loads(metadata[b"classes"]) == list(table.classes)
    assert (json.loads(metadata[b"skipped"]), json.loads(metadata[b"made_of"])) == (["ä/torn.png"], table.made_of)
    assert [row["path"] for row in rows] == table.paths.tolist()
    assert [row["label"] for row in rows] == (table.labels.tolist() if labels else [None] * 20)
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), table.embeddings)


def test_paths_that_are_not_utf8(tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    for names, root in (([odd], "/photos"), (["a.png"], odd)):
        table = EmbeddingTable(np.ones((1, 2), np.float32), np.array(names), root=root)
        table.save(tmp_path / "e.npz")
        assert_equal(EmbeddingTable.load(tmp_path / "e.npz"), table)
        pytest.importorskip("pyarrow")
        with pytest.raises(DataError, match=r"not valid UTF-8.*write a \.npz"):
            table.save(tmp_path / "e.parquet")
        assert os.listdir(tmp_path) == ["e.npz"]


def test_minimal_npz_is_loaded(tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2, dtype=np.float16), paths=np.array(["a", "b"]))
    assert_equal(
        EmbeddingTable.load(tmp_path / "e.npz"), EmbeddingTable(np.eye(2, dtype=np.float32), np.array(["a", "b"]))
    )


def test_find_accepts_path_file_and_row(tmp_path):
    (tmp_path / "ä").mkdir()
    (tmp_path / "ä" / "3.png").touch()
    table = make_table(root=os.path.realpath(tmp_path))
    assert [table.find(query) for query in ("ä/3.png", str(tmp_path / "ä" / "3.png"), "3", 3)] == [3] * 4
    numbered = EmbeddingTable(table.embeddings, np.array(list("43210")))
    assert numbered.find("4") == 0  # paths take precedence over rows
    for query in ("b.png", "5", "-1", 5, -1):
        with pytest.raises(
            ValueError, match=r"no image .* in this table of 5 images: .* such as 'ä/0.png', or a row from 0 to 4"
        ):
            table.find(query)
    assert [table.label(row) for row in (0, 1)] == ["cat", "dog"] and make_table(labels=False).label(0) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.ones((2, 3))}, "float32"),
        ({"embeddings": np.ones((0, 3), np.float32)}, "not empty"),
        ({"paths": np.array(["a"])}, "paths must be 2 strings"),
        ({"labels": np.array([0, 2])}, r"labels must be in \[0, 2\), got 0 to 2"),
        ({"labels": np.array([0.0, 1.0])}, "int64"),
    ],
)
def test_inconsistent_columns_raise(change, message):
    right = {"embeddings": np.ones((2, 3), np.float32), "paths": np.array(["a", "b"]), "labels": np.array([0, 1])}
    EmbeddingTable(**right, classes=("cat", "dog"))
    with pytest.raises(ValueError, match=message):
        EmbeddingTable(**{**right, **change}, classes=("cat", "dog"))


@pytest.mark.parametrize(
    "change",
    [
        {"embeddings": None},
        {"paths": None},
        {"paths": np.array([{}, {}], object)},
        {"embeddings": np.array(["a", "b"])},
        {"classes": np.array("x")},
        {"made_of": np.array("{")},
        {"made_of": np.array("[]")},
        {"made_of": np.array(1)},
        {"root": np.array(["/a", "/b"])},
        {"labels": np.array([0, 9])},
        {"labels": np.array([0.5, 1])},
    ],
)
def test_file_that_is_not_a_table_raises(tmp_path, change):
    right = {
        "embeddings": np.ones((2, 3), np.float32),
        "paths": np.array(["a", "b"]),
        "classes": np.array(["x"]),
        "made_of": np.array("{}"),
    }
    np.savez(tmp_path / "e.npz", **right)
    assert len(EmbeddingTable.load(tmp_path / "e.npz")) == 2
    np.savez(tmp_path / "e.npz", **{key: value for key, value in {**right, **change}.items() if value is not None})
    with pytest.raises(DataError, match=r"e\.npz"):
        EmbeddingTable.load(tmp_path / "e.npz")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_damaged_and_missing_files_raise(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"e.{suffix}"
    with pytest.raises(DataError, match=rf"e\.{suffix}: no such file"):
        EmbeddingTable.load(path)
    make_table(100).save(path)
    content = path.read_bytes()
    for torn in (b"", content[:-40], content[: len(content) // 2], b"x" * len(content)):
        path.write_bytes(torn)
        with pytest.raises(DataError, match=rf"e\.{suffix}"):
            EmbeddingTable.load(path)


def test_parquet_file_that_is_not_a_table_raises(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"embedding": [1.0], "path": ["a"]}), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"e\.parquet: not a readable table"):
        EmbeddingTable.load(tmp_path / "e.parquet")


def test_unsupported_suffix_and_missing_pyarrow_raise(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"e\.csv must end in \.npz or \.parquet"):
        make_table().save(tmp_path / "e.csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"needs pyarrow: pip install pyarrow"):
        make_table().save(tmp_path / "e.parquet")
