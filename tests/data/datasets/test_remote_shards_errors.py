"""Error messages for shards on a web server, and for missing packages."""

from __future__ import annotations

import importlib
import re
import sys
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from ssl_lib import Loader, ViewConfig, ViewPipeline
from ssl_lib.data import ShardData
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.utils.optional import missing_package
from tests.data.datasets.range_server import NOISE, PIXELS, Handler
from tests.data.shard_samples import encoded, write


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_permanent_failure_names_the_image_and_is_not_skipped(server, remote_shards, on_error):
    data = ShardData(f"{server.url}/{remote_shards}", on_error=on_error)
    server.failures = [503] * 4
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: cannot be read \(ClientResponseError: 503") as caught:
        data.read(5)
    assert type(caught.value) is DataError and not server.failures
    server.failures = [403]
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: cannot be read \(ClientResponseError: 403"):
        data.read(5)
    server.short = 1
    with pytest.raises(DataError, match=r"0005\.png: cannot be read \(OSError: received \d+ bytes instead of \d+\)"):
        data.read(5)
    server.short = 0
    (server.folder / "train-1.tar").unlink()
    with pytest.raises(DataError, match=r"train-1\.tar:0005\.png: no such file"):
        data.read(5)


def test_damaged_image_raises_an_error_or_is_skipped(server, tmp_path):
    write(tmp_path / "a.tar", [("x.png", encoded(PIXELS[0])), ("y.png", b"no image"), ("z.png", encoded(PIXELS[2]))])
    with pytest.raises(DataError, match=r"a\.tar:y\.png cannot be read as an image.*data\.on_error=skip"):
        ShardData(f"{server.url}/a.tar").read(1)
    data = ShardData(f"{server.url}/a.tar", on_error="skip")
    (batch,) = Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 3, workers=0).epoch(0)
    assert sorted(batch.indices.tolist()) == [0, 2, 2] and data.read(0).shape == (3, 9, 11)


def test_invalid_shard_raises_a_clear_error(server, remote_shards, tmp_path):
    with pytest.raises(DataError, match=r"^http://127.*/b\.tar: no such file$"):
        ShardData(f"{server.url}/b.tar")
    assert server.new_methods() == {"HEAD", "GET"}  # fsspec sends a GET if HEAD fails
    with pytest.raises(DataError, match=r"train-3\.tar: no such file"):
        ShardData(f"{server.url}/train-{{0..3}}.tar")
    assert {path for kind, path in server.requests if kind == "GET"} == {"/train-3.tar"}  # before the long reads
    for content in (b"", b"no tar file" * 100, (tmp_path / "train-0.tar").read_bytes()[:1000]):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.tar: not a complete, uncompressed tar file of images"):
            ShardData(f"{server.url}/b.tar")
    server.sends_size = False
    with pytest.raises(DataError, match=r"train-0\.tar: the server does not send the size of the file"):
        ShardData(f"{server.url}/train-0.tar")


def test_server_without_byte_ranges_raises_an_error_before_it_sends_whole_shards(server, tmp_path):
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(NOISE)) for index in range(2)])
    server.ranges = False
    with pytest.raises(DataError, match=r"a\.tar: the server does not support byte ranges; use one that does"):
        ShardData(f"{server.url}/a.tar")


def test_server_that_does_not_answer_raises_a_clear_error(server, remote_shards):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(DataError, match=r"a\.tar: cannot be read \(ClientConnectorError: Cannot connect to host 127"):
        ShardData(f"http://127.0.0.1:{port}/a.tar")


def test_missing_fsspec_raises_an_error_with_the_fix(monkeypatch):
    fix = re.escape(f"; a URL {missing_package('fsspec[http]>=2025.5')}") + "$"
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"^s3://bucket/a\.tar: .*fsspec.*" + fix):
        ShardData("s3://bucket/a.tar")
    monkeypatch.setitem(sys.modules, "fsspec", SimpleNamespace(__version__="2024.12.0"))
    with pytest.raises(ConfigError, match=r"fsspec 2024\.12\.0 would hang in worker processes" + fix):
        ShardData("s3://bucket/a.tar")


def test_missing_package_of_a_protocol_raises_an_error_with_the_fix(monkeypatch):
    pytest.importorskip("fsspec", "2025.5")
    registry = importlib.import_module("fsspec.registry")
    for protocol, package in (("http", "aiohttp"), ("s3", "s3fs")):
        monkeypatch.delitem(registry._registry, protocol, raising=False)
        monkeypatch.delitem(sys.modules, f"fsspec.implementations.{protocol}", raising=False)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r'"aiohttp".*; a URL needs fsspec\[http\]: pip .*"ssl_lib\[remote\]"$'):
        ShardData("http://127.0.0.1/a.tar")
    with pytest.raises(ConfigError, match=r"s3://bucket/a\.tar: Install s3fs to access S3: pip install s3fs"):
        ShardData("s3://bucket/a.tar")
    with pytest.raises(ConfigError, match=r"nowhere://a\.tar: Protocol not known: nowhere"):
        ShardData("nowhere://a.tar")
