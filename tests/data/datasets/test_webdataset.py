"""WebDataset shards, as tarfile writes them."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib import Loader, ViewConfig, ViewPipeline
from ssl_lib.config.convert import arguments_of, check_arguments
from ssl_lib.data import ShardData, webdataset
from ssl_lib.errors import DataError
from tests.data.shard_samples import encoded, write

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 11, 3), dtype=np.uint8)


@pytest.fixture
def shards(tmp_path):
    """Three shards of four images, the class of image i being i modulo 5."""
    for shard in range(3):
        members = []
        for index in range(4 * shard, 4 * shard + 4):
            members += [
                (f"./some.dir/{index:04d}.png", encoded(PIXELS[index])),
                (f"./some.dir/{index:04d}.cls", b"%d\n" % (index % 5)),
            ]
            members += [(f"./some.dir/{index:04d}.json", b"{}")]
        write(tmp_path / f"train-{shard:03d}.tar", members)
    return f"{tmp_path}/train-{{000..002}}.tar"


def test_images_and_labels_in_their_order(shards):
    data = ShardData(shards)
    assert len(data) == 12 and data.labels.tolist() == [index % 5 for index in range(12)]
    for index in (0, 3, 4, 11):
        assert torch.equal(data.read(index), torch.from_numpy(PIXELS[index]).permute(2, 0, 1))
    assert webdataset(shards, split="test") is None and webdataset(shards, split="bank") is None
    assert len(webdataset(shards, test_urls=shards.replace("000..002", "001,002"), split="test")) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_every_image_once_whatever_the_workers(shards, workers):
    loader = Loader(ShardData(shards), ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 4, workers=workers)
    batches = list(loader.epoch(0))
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(12))
    again = list(loader.epoch(0, start=2))
    assert torch.equal(again[0].indices, batches[2].indices)
    assert torch.equal(again[0].images[0], batches[2].images[0])


def test_without_labels(tmp_path):
    jpeg = encoded(PIXELS[0], "JPEG")
    write(tmp_path / "a.tar", [("x.jpg", jpeg), ("y.JPG", jpeg)])
    data = ShardData(str(tmp_path / "a.tar"))
    assert data.labels is None and len(data) == 2
    expected = torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)))).permute(2, 0, 1)
    assert torch.equal(data.read(1), expected)
    with pytest.raises(DataError, match=r"need labels, a \.cls beside each"):
        webdataset("any", test_urls=str(tmp_path / "a.tar"), split="test")


def test_a_damaged_image_is_named_or_skipped(tmp_path):
    write(tmp_path / "a.tar", [("x.png", encoded(PIXELS[0])), ("y.png", b"no image"), ("z.png", encoded(PIXELS[2]))])
    path = str(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a\.tar:y\.png cannot be read as an image.*data\.on_error=skip"):
        ShardData(path).read(1)
    data = ShardData(path, on_error="skip")
    loader = Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 3, workers=0)
    (batch,) = loader.epoch(0)
    assert sorted(batch.indices.tolist()) == [0, 2, 2] and loader.skipped == [f"{path}:y.png"]


@pytest.mark.parametrize(
    ("members", "mode", "message"),
    [
        ([("x.png", encoded(PIXELS[0]))], "w:gz", "uncompressed tar"),
        ([("x.txt", b"text")], "w", "no images in these shards"),
        ([("x.png", encoded(PIXELS[0])), ("x.cls", b"cat")], "w", "must hold a class index, got b'cat'"),
        ([("x.png", encoded(PIXELS[0])), ("x.cls", b"1"), ("y.png", encoded(PIXELS[0]))], "w", "1 of 2 images have no"),
    ],
)
def test_what_is_wrong_with_a_shard_is_named(members, mode, message, tmp_path):
    write(tmp_path / "a.tar", members, mode)
    with pytest.raises(DataError, match=message):
        ShardData(str(tmp_path / "a.tar"))


def test_shards_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match=r"b-1\.tar: no such shard"):
        write(tmp_path / "b-0.tar", [("x.png", encoded(PIXELS[0]))])
        ShardData(f"{tmp_path}/b-{{0..1}}.tar")
    for urls in (f"{tmp_path}/c-*.tar", [f"{tmp_path}/b-0.tar", f"{tmp_path}/c-*.tar"]):
        with pytest.raises(DataError, match=r"c-\*\.tar: no such shard"):
            ShardData(urls)
    with pytest.raises(DataError, match="urls is empty"):
        ShardData([])


def test_lists_and_patterns(shards, tmp_path):
    expected = ShardData(shards)
    (tmp_path / "train-none.tar").mkdir()
    write(tmp_path / "odd[0-9].tar", [("x.png", encoded(PIXELS[11]))])
    for urls in (f"{tmp_path}/train-*.tar", [f"{tmp_path}/train-00[01].tar", f"{tmp_path}/*-002.tar"]):
        assert ShardData(urls).shards == expected.shards
    assert torch.equal(ShardData(f"{tmp_path}/odd[0-9].tar").read(0), expected.read(11))  # a name before a pattern
    parts = [f"{tmp_path}/train-002.tar", f"{tmp_path}/train-000.tar"]
    arguments = check_arguments({"urls": parts}, arguments_of(webdataset, ["split"]), "data")
    data = webdataset(**arguments)
    assert data.shards == parts and data.labels.tolist() == [3, 4, 0, 1, 0, 1, 2, 3]
    assert torch.equal(data.read(4), expected.read(0))


def test_damage_that_tarfile_passes_over_is_found(tmp_path):
    """A flipped byte in a header, and files cut at a header or between members: tarfile itself just ends there."""
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(PIXELS[index])) for index in range(6)])
    whole = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        fourth = archive.getmembers()[3]
    header = fourth.offset
    flipped = whole[: header + 150] + bytes([whole[header + 150] ^ 1]) + whole[header + 151 :]
    for damaged in (flipped, whole[: header + 100], whole[:header]):
        (tmp_path / "b.tar").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b\.tar: not a whole, uncompressed tar file"):
            ShardData(str(tmp_path / "b.tar"))
    data = ShardData(str(tmp_path / "a.tar"))
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        data.read(0)


def test_labels_are_classes(tmp_path):
    for content in (b"-1", b"1" + b"0" * 25):
        write(tmp_path / "a.tar", [("x.png", encoded(PIXELS[0])), ("x.CLS", content)])
        with pytest.raises(DataError, match=r"x\.CLS must hold a class index from 0 on"):
            ShardData(str(tmp_path / "a.tar"))
