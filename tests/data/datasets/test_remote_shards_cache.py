"""Cached image lists of shards on a web server."""

from __future__ import annotations

import os
from multiprocessing.pool import ThreadPool

import pytest
import torch

from ssl_lib.data import ShardData
from tests.data.datasets.range_server import PIXELS
from tests.data.shard_samples import encoded, write


def test_image_list_is_read_once_for_each_version_of_a_shard(server, remote_shards, tmp_path):
    first = ShardData(f"{server.url}/{remote_shards}")
    assert server.new_methods() == {"HEAD", "GET"}
    second = ShardData(f"{server.url}/{remote_shards}")
    assert server.new_methods() == {"HEAD"}
    assert second.labels.tolist() == first.labels.tolist() and torch.equal(second.read(7), first.read(7))
    server.requests.clear()
    write(tmp_path / "train-1.tar", [("x.png", encoded(PIXELS[0])), ("x.cls", b"5")])
    os.utime(tmp_path / "train-1.tar", (1, 1))
    third = ShardData(f"{server.url}/{remote_shards}")
    assert {path for kind, path in server.requests if kind == "GET"} == {"/train-1.tar"}
    assert third.labels.tolist() == [0, 1, 2, 3, 5, 8, 9, 10, 11]


def test_only_one_of_concurrent_starts_reads_the_image_lists(server, remote_shards, tmp_path, monkeypatch):
    ShardData(f"{server.url}/{remote_shards}")
    single = [path for kind, path in server.requests if kind == "GET"]
    server.requests.clear()
    server.delay = 0.05  # so that all start before the first one finishes
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with ThreadPool(4) as threads:
        results = threads.map(ShardData, [f"{server.url}/{remote_shards}"] * 4)
    assert all(data.labels.tolist() == list(range(12)) for data in results)
    assert sorted(path for kind, path in server.requests if kind == "GET") == sorted(single)
    assert {file.suffix for file in (tmp_path / "another" / "ssl_lib").iterdir()} == {".npz", ".lock"}


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-50], lambda content: b"no archive"])
def test_damaged_cache_is_replaced(server, remote_shards, tmp_path, damage):
    ShardData(f"{server.url}/{remote_shards}")
    for file in (tmp_path / "cache" / "ssl_lib").iterdir():
        file.write_bytes(damage(file.read_bytes()))
    server.new_methods()
    assert ShardData(f"{server.url}/{remote_shards}").labels.tolist() == list(range(12))
    assert server.new_methods() == {"HEAD", "GET"}
    ShardData(f"{server.url}/{remote_shards}")
    assert server.new_methods() == {"HEAD"}


def test_shards_without_a_version_are_not_cached(server, remote_shards, tmp_path):
    server.sends_version = False
    for _ in range(2):
        server.new_methods()
        ShardData(f"{server.url}/{remote_shards}")
        assert server.new_methods() == {"HEAD", "GET"}
    assert not (tmp_path / "cache").exists()
