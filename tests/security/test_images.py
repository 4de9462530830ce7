"""Tests that an image that claims more pixels than it holds is refused and allocates little memory."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib

import pytest
from PIL import Image

from ssl_lib import DataError
from ssl_lib.data import FolderData, ShardData
from tests.security.conftest import MIB, memory_limit
from tests.security.tar_files import write_tar


def png(side):
    """A PNG file of 1,000 bytes that claims side x side pixels and has less data."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def tiff(side):
    """A TIFF file with one strip that claims side x side pixels."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: side, 279: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + bytes(64)


def jpeg(side, progressive=False):
    """A small JPEG file whose frame header claims side x side pixels."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "JPEG", progressive=progressive)
    content = bytearray(file.getvalue())
    at = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def bmp(side):
    """A BMP file that claims side x side pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 118, 0, 0, 54) + info + bytes(64)


BOMBS = {
    "png": png(100_000),
    "tiff": tiff(100_000),
    "jpeg": jpeg(65_500),
    "progressive jpeg": jpeg(65_500, progressive=True),
    "bmp": bmp(100_000),
}


@pytest.mark.parametrize("place", ["folder", "shard"])
@pytest.mark.parametrize("kind", BOMBS)
def test_image_bomb_is_refused(kind, place, tmp_path):
    name = f"bomb.{kind.split()[-1]}"
    if place == "folder":
        (tmp_path / name).write_bytes(BOMBS[kind])
        data = FolderData(tmp_path)
    else:
        write_tar(tmp_path / "set.tar", [(tarfile.TarInfo(name), BOMBS[kind])])
        data = ShardData(str(tmp_path / "set.tar"))
    with (
        memory_limit(),
        pytest.raises(DataError, match=rf"{name} cannot be read as an image \(DecompressionBombError"),
    ):
        data.read(0)


@pytest.mark.parametrize("make", [png, tiff, bmp])
def test_image_below_the_pixel_limit_with_too_little_data_is_refused(make, tmp_path):
    path = tmp_path / f"short.{make.__name__}"
    path.write_bytes(make(9_000))
    with memory_limit(300 * MIB), pytest.raises(DataError, match=r"short\.\w+ cannot be read as an image"):
        FolderData(tmp_path).read(0)
