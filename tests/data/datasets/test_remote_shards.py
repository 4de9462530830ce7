"""Shards on a web server: a real one, of this process, that counts what it is asked for and can be made to fail."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_lib import Loader, ViewConfig, ViewPipeline
from ssl_lib.data import ShardData, remote
from ssl_lib.errors import ConfigError, DataError
from tests.data.shard_samples import encoded, write

# From Python 3.12 on, a fork beside threads (those of the server, and fsspec's own) warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 11, 3), dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)  # 270 kB as PNG


class Handler(BaseHTTPRequestHandler):
    """Serves byte ranges of the files in a folder."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        server, path = self.server, self.server.folder / self.path.lstrip("/")
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if server.ranges else None
        server.requests.append((self.command, self.path))
        time.sleep(server.delay)
        if server.together and span:
            server.together.wait(timeout=10)
        if server.failures and span:
            return self.send_error(server.failures.pop())
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        size = len(content)
        if span:
            content = content[int(span[1]) : int(span[2]) + 1 - server.short]
        self.send_response(206 if span else 200)
        if server.tells_size:
            self.send_header("Content-Length", str(len(content)))
        if server.tells_version:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{span[2]}/{size}")
        self.end_headers()
        if self.command == "GET":
            server.sent += len(content)
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    ranges, tells_size, tells_version, short, sent, delay = True, True, True, 0, 0, 0.0
    together: threading.Barrier | None = None

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.failures = folder, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def asked(self):
        """The kinds of the requests since the last call."""
        kinds = {kind for kind, _ in self.requests}
        self.requests.clear()
        return kinds

    def handle_error(self, *_):
        """A client that hangs up is none of ours."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    pytest.importorskip("fsspec", "2025.5")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0, 0.0))
    with Server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def shards(tmp_path):
    """Three shards of four images with the classes 0 to 11; their names behind the folder or the server."""
    for shard in range(3):
        indices = range(4 * shard, 4 * shard + 4)
        members = [(f"{i:04d}.png", encoded(PIXELS[i])) for i in indices] + [
            (f"{i:04d}.cls", b"%d" % i) for i in indices
        ]
        write(tmp_path / f"train-{shard}.tar", members)
    return "train-{0..2}.tar"


def epoch(data, workers):
    return list(Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 4, workers=workers).epoch(0))


def test_the_images_are_those_of_the_local_shards(server, shards, tmp_path):
    local, data = ShardData(f"{tmp_path}/{shards}"), ShardData(f"{server.url}/{shards}")
    assert data.labels.tolist() == local.labels.tolist() == list(range(12))
    assert all(torch.equal(data.read(index), local.read(index)) for index in range(12))
    mixed = ShardData([f"{server.url}/train-2.tar", f"{tmp_path}/train-0.tar"])
    assert mixed.labels.tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert torch.equal(mixed.read(1), local.read(9)) and torch.equal(mixed.read(5), local.read(1))
    assert torch.equal(pickle.loads(pickle.dumps(data)).read(3), local.read(3))


class Collected(ShardData):
    """Collects garbage after each process's first read, as Python does from time to time."""

    process = os.getpid()

    def read(self, index):
        image = super().read(index)
        if self.process != os.getpid():
            self.process = os.getpid()
            gc.collect()
        return image


def test_workers_read_what_their_parent_reads_and_leave_its_connections_alone(server, shards, tmp_path):
    data = Collected(f"{server.url}/{shards}")
    expected = epoch(ShardData(f"{tmp_path}/{shards}"), workers=0)
    for workers in (0, 2, 0):
        batches = epoch(data, workers)
        for batch, other in zip(batches, expected, strict=True):
            assert torch.equal(batch.indices, other.indices) and torch.equal(batch.images[0], other.images[0])


def test_the_images_of_a_batch_are_asked_for_together(server, shards, tmp_path):
    data = ShardData(f"{server.url}/{shards}")
    server.together = threading.Barrier(4)  # which lets requests pass by fours
    expected = epoch(ShardData(f"{tmp_path}/{shards}"), workers=0)
    assert all(map(torch.equal, (b.images[0] for b in epoch(data, workers=0)), (b.images[0] for b in expected)))
    server.together = None
    mixed = ShardData([f"{server.url}/train-0.tar", f"{tmp_path}/train-1.tar"])
    mixed.prepare([1, 3, 5])
    server.asked()
    assert [int(mixed.read(index)[0, 0, 0]) for index in (3, 5, 1)] == PIXELS[[3, 5, 1], 0, 0, 0].tolist()
    assert server.asked() == set()
    assert int(mixed.read(1)[0, 0, 0]) == PIXELS[1, 0, 0, 0] and server.asked() == {"GET"}


def test_the_index_is_made_once_for_each_version_of_a_shard(server, shards, tmp_path):
    first = ShardData(f"{server.url}/{shards}")
    assert server.asked() == {"HEAD", "GET"}
    second = ShardData(f"{server.url}/{shards}")
    assert server.asked() == {"HEAD"}
    assert second.labels.tolist() == first.labels.tolist() and torch.equal(second.read(7), first.read(7))
    server.requests.clear()
    write(tmp_path / "train-1.tar", [("x.png", encoded(PIXELS[0])), ("x.cls", b"5")])
    os.utime(tmp_path / "train-1.tar", (1, 1))
    third = ShardData(f"{server.url}/{shards}")
    assert {path for kind, path in server.requests if kind == "GET"} == {"/train-1.tar"}
    assert third.labels.tolist() == [0, 1, 2, 3, 5, 8, 9, 10, 11]


def test_of_those_who_start_together_one_makes_the_index(server, shards, tmp_path, monkeypatch):
    ShardData(f"{server.url}/{shards}")
    alone = [path for kind, path in server.requests if kind == "GET"]
    server.requests.clear()
    server.delay = 0.05  # so that all have begun before one is done
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with ThreadPool(4) as threads:
        several = threads.map(ShardData, [f"{server.url}/{shards}"] * 4)
    assert all(data.labels.tolist() == list(range(12)) for data in several)
    assert sorted(path for kind, path in server.requests if kind == "GET") == sorted(alone)
    assert {file.suffix for file in (tmp_path / "another" / "ssl_lib").iterdir()} == {".npz", ".lock"}


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-50], lambda content: b"no archive"])
def test_a_damaged_cache_is_made_anew(server, shards, tmp_path, damage):
    ShardData(f"{server.url}/{shards}")
    for file in (tmp_path / "cache" / "ssl_lib").iterdir():
        file.write_bytes(damage(file.read_bytes()))
    server.asked()
    assert ShardData(f"{server.url}/{shards}").labels.tolist() == list(range(12))
    assert server.asked() == {"HEAD", "GET"}
    ShardData(f"{server.url}/{shards}")
    assert server.asked() == {"HEAD"}


def test_shards_whose_version_is_not_told_are_not_cached(server, shards, tmp_path):
    server.tells_version = False
    for _ in range(2):
        server.asked()
        ShardData(f"{server.url}/{shards}")
        assert server.asked() == {"HEAD", "GET"}
    assert not (tmp_path / "cache").exists()


def test_large_images_are_passed_over_when_indexing(server, tmp_path):
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(NOISE)) for index in range(5)])
    data = ShardData(f"{server.url}/a.tar")
    assert len(data) == 5 and server.sent < 0.4 * (tmp_path / "a.tar").stat().st_size
    assert torch.equal(data.read(4), torch.from_numpy(NOISE).permute(2, 0, 1))


def test_hiccups_are_waited_out(server, shards, tmp_path):
    server.failures = [503, 500, 429]
    data = ShardData(f"{server.url}/{shards}")
    server.failures = [503, 500, 429]
    assert torch.equal(data.read(4), ShardData(f"{tmp_path}/{shards}").read(4)) and not server.failures


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_failures_that_last_name_the_image_and_are_not_skipped(server, shards, on_error):
    data = ShardData(f"{server.url}/{shards}", on_error=on_error)
    server.failures = [503] * 4
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: cannot be read \(ClientResponseError: 503") as caught:
        data.read(5)
    assert type(caught.value) is DataError and not server.failures
    server.failures = [403]
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: cannot be read \(ClientResponseError: 403"):
        data.read(5)
    server.short = 1
    with pytest.raises(DataError, match=r"0005\.png: cannot be read \(OSError: \d+ bytes came where \d+ were asked"):
        data.read(5)
    server.short = 0
    (server.folder / "train-1.tar").unlink()
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: no such file"):
        data.read(5)


def test_a_damaged_image_is_skipped(server, tmp_path):
    write(tmp_path / "a.tar", [("x.png", encoded(PIXELS[0])), ("y.png", b"no image"), ("z.png", encoded(PIXELS[2]))])
    with pytest.raises(DataError, match=r"a\.tar:y\.png cannot be read as an image.*data\.on_error=skip"):
        ShardData(f"{server.url}/a.tar").read(1)
    data = ShardData(f"{server.url}/a.tar", on_error="skip")
    (batch,) = Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 3, workers=0).epoch(0)
    assert sorted(batch.indices.tolist()) == [0, 2, 2] and data.read(0).shape == (3, 9, 11)


def test_what_is_wrong_with_a_shard_is_named(server, shards, tmp_path):
    with pytest.raises(DataError, match=r"^http://127.*/b\.tar: no such file$"):
        ShardData(f"{server.url}/b.tar")
    assert server.asked() == {"HEAD", "GET"}  # fsspec asks by GET what was not answered to HEAD
    with pytest.raises(DataError, match=r"train-3\.tar: no such file"):
        ShardData(f"{server.url}/train-{{0..3}}.tar")
    assert {path for kind, path in server.requests if kind == "GET"} == {"/train-3.tar"}  # before the long way
    for content in (b"", b"no tar file" * 100, (tmp_path / "train-0.tar").read_bytes()[:1000]):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.tar: not a whole, uncompressed tar file of images"):
            ShardData(f"{server.url}/b.tar")
    server.tells_size = False
    with pytest.raises(DataError, match=r"train-0\.tar: the server does not tell the file's size"):
        ShardData(f"{server.url}/train-0.tar")


def test_a_server_without_ranges_is_named_before_it_sends_whole_shards(server, tmp_path):
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(NOISE)) for index in range(2)])
    server.ranges = False
    with pytest.raises(DataError, match=r"a\.tar: the server hands out whole files only; take one that serves byte"):
        ShardData(f"{server.url}/a.tar")


def test_a_server_that_does_not_answer_is_named(server, shards):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        free = other.server_port
    with pytest.raises(DataError, match=r"a\.tar: cannot be read \(ClientConnectorError: Cannot connect to host 127"):
        ShardData(f"http://127.0.0.1:{free}/a.tar")


def test_missing_packages_are_named(monkeypatch):
    cure = r': pip install "fsspec\[http\]>=2025\.5" \(the extra `remote`\)$'
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"^s3://bucket/a\.tar: .*fsspec.*" + cure):
        ShardData("s3://bucket/a.tar")
    monkeypatch.setitem(sys.modules, "fsspec", SimpleNamespace(__version__="2024.12.0"))
    with pytest.raises(ConfigError, match=r"fsspec 2024\.12\.0 would hang in worker processes" + cure):
        ShardData("s3://bucket/a.tar")


def test_missing_packages_of_a_protocol_are_named(monkeypatch):
    pytest.importorskip("fsspec", "2025.5")
    registry = importlib.import_module("fsspec.registry")
    for protocol, package in (("http", "aiohttp"), ("s3", "s3fs")):
        monkeypatch.delitem(registry._registry, protocol, raising=False)
        monkeypatch.delitem(sys.modules, f"fsspec.implementations.{protocol}", raising=False)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r'"aiohttp".*: pip install "fsspec\[http\]>=2025\.5" \(the extra'):
        ShardData("http://127.0.0.1/a.tar")
    with pytest.raises(ConfigError, match=r"s3://bucket/a\.tar: Install s3fs to access S3: pip install s3fs"):
        ShardData("s3://bucket/a.tar")
    with pytest.raises(ConfigError, match=r"nowhere://a\.tar: Protocol not known: nowhere"):
        ShardData("nowhere://a.tar")
