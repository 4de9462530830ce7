"""Shards on a web server: images, batches and workers compared with local shards."""

from __future__ import annotations

import gc
import os
import pickle
import threading

import pytest
import torch

from ssl_lib import Loader, ViewConfig, ViewPipeline
from ssl_lib.data import ShardData
from tests.data.datasets.range_server import NOISE, PIXELS
from tests.data.shard_samples import encoded, write

# Since Python 3.12, a fork in a process with threads (of the server and of fsspec) emits a warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def epoch(data, workers):
    return list(Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 4, workers=workers).epoch(0))


def test_images_equal_those_of_local_shards(server, remote_shards, tmp_path):
    local, data = ShardData(f"{tmp_path}/{remote_shards}"), ShardData(f"{server.url}/{remote_shards}")
    assert data.labels.tolist() == local.labels.tolist() == list(range(12))
    assert all(torch.equal(data.read(index), local.read(index)) for index in range(12))
    mixed = ShardData([f"{server.url}/train-2.tar", f"{tmp_path}/train-0.tar"])
    assert mixed.labels.tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert torch.equal(mixed.read(1), local.read(9)) and torch.equal(mixed.read(5), local.read(1))
    assert torch.equal(pickle.loads(pickle.dumps(data)).read(3), local.read(3))


class Collected(ShardData):
    """Collects garbage after the first read in each process, as Python may do at any time."""

    process = os.getpid()

    def read(self, index):
        image = super().read(index)
        if self.process != os.getpid():
            self.process = os.getpid()
            gc.collect()
        return image


def test_workers_read_the_same_images_and_do_not_use_connections_of_their_parent(server, remote_shards, tmp_path):
    data = Collected(f"{server.url}/{remote_shards}")
    expected = epoch(ShardData(f"{tmp_path}/{remote_shards}"), workers=0)
    for workers in (0, 2, 0):
        batches = epoch(data, workers)
        for batch, other in zip(batches, expected, strict=True):
            assert torch.equal(batch.indices, other.indices) and torch.equal(batch.images[0], other.images[0])


def test_images_of_a_batch_are_requested_concurrently(server, remote_shards, tmp_path):
    data = ShardData(f"{server.url}/{remote_shards}")
    server.barrier = threading.Barrier(4)  # lets requests pass in groups of four
    expected = epoch(ShardData(f"{tmp_path}/{remote_shards}"), workers=0)
    assert all(map(torch.equal, (b.images[0] for b in epoch(data, workers=0)), (b.images[0] for b in expected)))
    server.barrier = None
    mixed = ShardData([f"{server.url}/train-0.tar", f"{tmp_path}/train-1.tar"])
    mixed.prepare([1, 3, 5])
    server.new_methods()
    assert [int(mixed.read(index)[0, 0, 0]) for index in (3, 5, 1)] == PIXELS[[3, 5, 1], 0, 0, 0].tolist()
    assert server.new_methods() == set()
    assert int(mixed.read(1)[0, 0, 0]) == PIXELS[1, 0, 0, 0] and server.new_methods() == {"GET"}


def test_indexing_does_not_download_large_images(server, tmp_path):
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(NOISE)) for index in range(5)])
    data = ShardData(f"{server.url}/a.tar")
    assert len(data) == 5 and server.sent < 0.4 * (tmp_path / "a.tar").stat().st_size
    assert torch.equal(data.read(4), torch.from_numpy(NOISE).permute(2, 0, 1))


def test_temporary_errors_are_retried(server, remote_shards, tmp_path):
    server.failures = [503, 500, 429]
    data = ShardData(f"{server.url}/{remote_shards}")
    server.failures = [503, 500, 429]
    assert torch.equal(data.read(4), ShardData(f"{tmp_path}/{remote_shards}").read(4)) and not server.failures
