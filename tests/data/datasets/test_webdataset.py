"""WebDataset shards on the local disk."""

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
    """Three shards of four images. The class of image i is i modulo 5."""
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


def test_images_and_labels_have_the_order_of_the_shards(shards):
    data = ShardData(shards)
    assert len(data) == 12 and data.labels.tolist() == [index % 5 for index in range(12)]
    for index in (0, 3, 4, 11):
        assert torch.equal(data.read(index), torch.from_numpy(PIXELS[index]).permute(2, 0, 1))
    assert webdataset(shards, split="test") is None and webdataset(shards, split="bank") is None
    assert len(webdataset(shards, test_urls=shards.replace("000..002", "001,002"), split="test")) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_has_every_image_once(shards, workers):
    loader = Loader(ShardData(shards), ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 4, workers=workers)
    batches = list(loader.epoch(0))
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(12))
    again = list(loader.epoch(0, start=2))
    assert torch.equal(again[0].indices, batches[2].indices)
    assert torch.equal(again[0].images[0], batches[2].images[0])


def test_shards_without_labels(tmp_path):
    jpeg = encoded(PIXELS[0], "JPEG")
    write(tmp_path / "a.tar", [("x.jpg", jpeg), ("y.JPG", jpeg)])
    data = ShardData(str(tmp_path / "a.tar"))
    assert data.labels is None and len(data) == 2
    expected = torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)))).permute(2, 0, 1)
    assert torch.equal(data.read(1), expected)
    with pytest.raises(DataError, match=r"need labels, a \.cls file for each image"):
        webdataset("any", test_urls=str(tmp_path / "a.tar"), split="test")


def test_damaged_image_raises_an_error_or_is_skipped(tmp_path):
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
        ([("x.png", encoded(PIXELS[0])), ("x.cls", b"cat")], "w", "must contain a class index, got b'cat'"),
        ([("x.png", encoded(PIXELS[0])), ("x.cls", b"1"), ("y.png", encoded(PIXELS[0]))], "w", "1 of 2 images have no"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out files")
def test_invalid_shard_raises_a_clear_error(members, mode, message, tmp_path):
    write(tmp_path / "a.tar", members, mode)
    with pytest.raises(DataError, match=message):
        ShardData(str(tmp_path / "a.tar"))


def test_missing_shards_raise_an_error(tmp_path):
    with pytest.raises(DataError, match=r"b-1\.tar: no such shard"):
        write(tmp_path / "b-0.tar", [("x.png", encoded(PIXELS[0]))])
        ShardData(f"{tmp_path}/b-{{0..1}}.tar")
    for urls in (f"{tmp_path}/c-*.tar", [f"{tmp_path}/b-0.tar", f"{tmp_path}/c-*.tar"]):
        with pytest.raises(DataError, match=r"c-\*\.tar: no such shard"):
            ShardData(urls)
    with pytest.raises(DataError, match="urls is empty"):
        ShardData([])


def test_urls_can_be_lists_and_patterns(shards, tmp_path):
    expected = ShardData(shards)
    (tmp_path / "train-none.tar").mkdir()
    write(tmp_path / "odd[0-9].tar", [("x.png", encoded(PIXELS[11]))])
    for urls in (f"{tmp_path}/train-*.tar", [f"{tmp_path}/train-00[01].tar", f"{tmp_path}/*-002.tar"]):
        assert ShardData(urls).shards == expected.shards
    assert torch.equal(
        ShardData(f"{tmp_path}/odd[0-9].tar").read(0), expected.read(11)
    )  # an existing file takes precedence over a pattern
    parts = [f"{tmp_path}/train-002.tar", f"{tmp_path}/train-000.tar"]
    arguments = check_arguments({"urls": parts}, arguments_of(webdataset, ["split"]), "data")
    data = webdataset(**arguments)
    assert data.shards == parts and data.labels.tolist() == [3, 4, 0, 1, 0, 1, 2, 3]
    assert torch.equal(data.read(4), expected.read(0))


def test_damage_that_tarfile_ignores_raises_an_error(tmp_path):
    """tarfile silently stops at a flipped byte in a header, and at the end of a truncated file."""
    write(tmp_path / "a.tar", [(f"{index}.png", encoded(PIXELS[index])) for index in range(6)])
    intact = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        fourth = archive.getmembers()[3]
    header = fourth.offset
    flipped = intact[: header + 150] + bytes([intact[header + 150] ^ 1]) + intact[header + 151 :]
    for damaged in (flipped, intact[: header + 100], intact[:header]):
        (tmp_path / "b.tar").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b\.tar: not a complete, uncompressed tar file"):
            ShardData(str(tmp_path / "b.tar"))
    data = ShardData(str(tmp_path / "a.tar"))
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match="can no longer be read"):
        data.read(0)


def test_invalid_class_index_raises_an_error(tmp_path):
    for content in (b"-1", b"1" + b"0" * 25):
        write(tmp_path / "a.tar", [("x.png", encoded(PIXELS[0])), ("x.CLS", content)])
        with pytest.raises(DataError, match=r"x\.CLS must contain a class index in \[0, 2\*\*63\)"):
            ShardData(str(tmp_path / "a.tar"))
