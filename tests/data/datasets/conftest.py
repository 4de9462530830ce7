from __future__ import annotations

import threading

import pytest

from ssl_lib.data.io import remote
from tests.data.datasets.range_server import PIXELS, Server
from tests.data.shard_samples import encoded, write


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
def remote_shards(tmp_path):
    """Writes three shards of four images with the classes 0 to 11; returns the pattern of their file names."""
    for shard in range(3):
        indices = range(4 * shard, 4 * shard + 4)
        members = [(f"{i:04d}.png", encoded(PIXELS[i])) for i in indices] + [
            (f"{i:04d}.cls", b"%d" % i) for i in indices
        ]
        write(tmp_path / f"train-{shard}.tar", members)
    return "train-{0..2}.tar"
