"""Names in shards: samples, fields, labels and dots."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch

from ssl_lib.data import ShardData, webdataset
from ssl_lib.data.base import DataWarning
from ssl_lib.data.labels import matched
from ssl_lib.errors import DataError
from tests.data.shard_samples import encoded, write

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 9, 11, 3), dtype=np.uint8)
IMAGES = [encoded(pixels) for pixels in PIXELS]


def shard(tmp_path, *members):
    """Writes a shard; an integer is the number of an image, bytes are a content."""
    write(tmp_path / "a.tar", [(name, IMAGES[item] if isinstance(item, int) else item) for name, item in members])
    return str(tmp_path / "a.tar")


def equal(data, *indices):
    return len(data) == len(indices) and all(
        torch.equal(data.read(place), torch.from_numpy(PIXELS[index]).permute(2, 0, 1))
        for place, index in enumerate(indices)
    )


@pytest.mark.parametrize(
    "members",
    [
        [("1.png", 0), ("1.cls", b"0"), ("2.png", 1), ("2.cls", b"1")],
        [("1.image.png", 0), ("1.cls", b"0"), ("2.cls", b"1"), ("2.IMAGE.PNG", 1)],
        [("v1.0.7.png", 0), ("v1.0.7.cls", b"0"), ("v1.0.8.png", 1), ("v1.0.8.cls", b"1")],
        [("a.b/1.png", 0), ("a.b/1.cls", b"0"), ("a.b/2.png", 1), ("a.b/2.CLS", b"1\n")],
        [("a/1.png", 0), ("a/1.cls", b"0"), ("b/1.png", 1), ("b/1.cls", b"1")],
        [("ü\udcff.png", 0), ("ü\udcff.cls", b"0"), ("é.png", 1), ("é.cls", b"1")],
    ],
)
def test_each_image_has_its_own_label(tmp_path, members):
    data = ShardData(shard(tmp_path, *members))
    assert data.labels.tolist() == [0, 1] and equal(data, 0, 1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", 0), ("1.cls", b"0"), ("1.png", 1), ("1.cls", b"1")], r"1\.cls occurs twice"),
        ([("1.png", 0), ("1.png", 1)], r"1\.png occurs twice; give each sample a name of its own"),
        (
            [("1.l.png", 0), ("1.r.png", 1), ("1.cls", b"0")],
            r"1\.cls belongs to several images, 1\.l\.png, 1\.r\.png: choose .*field=l\.png or r\.png",
        ),
        ([("1.jpg", 0), ("1.png", 1), ("1.cls", b"0")], r"1\.cls belongs to several images"),
        ([("1.png", 0), ("1.cls", b"dog")], "must contain a class index, got b'dog'"),
    ],
)
def test_ambiguous_labels_are_refused(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        ShardData(shard(tmp_path, *members))


@pytest.mark.parametrize("field", ["l.png", "L.PNG", ".l.png"])
def test_field_chooses_one_image_of_each_sample(tmp_path, field):
    path = shard(tmp_path, *[(f"{key}.{side}.png", i) for i, (key, side) in enumerate(["1l", "1r", "2l", "2r"])])
    assert equal(webdataset(path, field=field), 0, 2)
    with pytest.warns(DataWarning, match=r"2 images are in one sample with another, such as 1\.l\.png and 1\.r\.png"):
        assert equal(webdataset(path), 0, 1, 2, 3)
    with pytest.raises(DataError, match="no images in these shards"), pytest.warns(DataWarning):
        webdataset(path, field="seg.png")


def test_field_fits_names_with_dots(tmp_path):
    members = [("v1.0.7.png", 0), ("v1.0.7.cls", b"0"), ("v1.0.8.png", 1), ("v1.0.8.cls", b"1")]
    assert equal(ShardData(shard(tmp_path, *members), field="png"), 0, 1)


def test_links_in_shards_are_reported(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("1.png")
        member.size = len(IMAGES[0])
        archive.addfile(member, io.BytesIO(IMAGES[0]))
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "1.png"
        archive.addfile(link)
    with pytest.warns(DataWarning, match=r"samples without a readable image \(1 \.png\)"):
        assert equal(ShardData(str(tmp_path / "a.tar")), 0)


def test_several_shards_are_reported_together(tmp_path):
    for index in range(3):
        write(tmp_path / f"{index}.tar", [("1.png", IMAGES[0]), ("2.svg", b"x")])
    with pytest.warns(DataWarning, match=r"0\.tar: left out files .* \(2 more shards are alike\)") as found:
        assert len(ShardData(f"{tmp_path}/*.tar")) == 3
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:class ids from")
def test_sparse_classes_of_test_shards_are_matched_with_those_of_the_training_shards(tmp_path):
    ids = (2_000_000, 2**63 - 1, 7)
    write(
        tmp_path / "train.tar", [(f"{i}.{end}", item) for i, number in enumerate(ids) for end, item in _pair(i, number)]
    )
    write(tmp_path / "test.tar", [(f"0.{end}", item) for end, item in _pair(1, ids[1])])
    urls = {"urls": f"{tmp_path}/train.tar", "test_urls": f"{tmp_path}/test.tar"}
    train, test = webdataset(**urls), webdataset(**urls, split="test")
    assert train.labels.tolist() == [1, 2, 0] and train.class_names == ("7", "2000000", str(2**63 - 1))
    assert matched(test, train).labels.tolist() == [2]


def _pair(index, number):
    return ("png", IMAGES[index]), ("cls", b"%d" % number)
