"""Tests that nothing in a tar file is unpacked, no link in it is followed, and no size in it is trusted."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from ssl_lib import DataError
from ssl_lib.data import ShardData
from tests.security.conftest import memory_limit
from tests.security.tar_files import write_tar


def member(name, kind=tarfile.REGTYPE, target=""):
    """The header of a file, link, device or pipe."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def image_bytes(value):
    """A PNG file of 4 x 4 pixels of one gray value."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value,) * 3).save(file, "PNG")
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*without a readable image")
def test_archive_is_not_unpacked_and_links_are_not_followed(tmp_path, monkeypatch):
    secret, inside = tmp_path / "secret.png", tmp_path / "a" / "b"
    secret.write_bytes(image_bytes(99))
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    write_tar(
        inside / "set.tar",
        [
            (member("../../escaped.png"), image_bytes(1)),
            (member(f"{tmp_path}/absolute.png"), image_bytes(2)),
            (member("soft.png", tarfile.SYMTYPE, str(secret)), b""),
            (member("hard.png", tarfile.LNKTYPE, str(secret)), b""),
            (member("device.png", tarfile.CHRTYPE), b""),
            (member("pipe.png", tarfile.FIFOTYPE), b""),
        ],
    )
    before = sorted(tmp_path.rglob("*"))
    data = ShardData("set.tar")
    assert [int(data.read(index)[0, 0, 0]) for index in range(len(data))] == [1, 2]
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/escaped.png").exists()


@pytest.mark.filterwarnings("ignore:.*without a readable image")
@pytest.mark.parametrize("kind", ["size", "sparse"])
def test_archive_with_a_wrong_size_is_refused(kind, tmp_path):
    info = tarfile.TarInfo("x.png")
    info.size = 10**13
    if kind == "size":
        content = info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    else:  # an old GNU sparse file of 512 bytes, which claims ten terabytes
        info.size, info.type = 512, tarfile.GNUTYPE_SPARSE
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[386:410] = b"%011o\0%011o\0" % (0, 512)
        header[483:495] = b"\x80" + (10**13).to_bytes(11, "big")
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header)
        content = bytes(header) + bytes(512) + bytes(1024)
    (tmp_path / "set.tar").write_bytes(content)
    with memory_limit(), pytest.raises(DataError, match=r"set\.tar"):
        ShardData(str(tmp_path / "set.tar"))
