"""Damaged 16-bit PNG files are reported: torchvision's decoder would crash on them."""

from __future__ import annotations

import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

CODE = """
import sys
from ssl_lib.data import FolderData, SkipImage
data = FolderData(sys.argv[1], on_error="skip", depth=16, channels=int(sys.argv[2]))
for index in range(len(data)):
    try:
        print(data.name(index), float(data.read(index).max()) > 0.9)
    except SkipImage as error:
        print(data.name(index), "skipped")
"""


def deep_png(path, color):
    """Writes a PNG of 16 bits, gray or RGB, with a chunk writer of its own: Pillow writes no color PNG of 16 bits."""
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 12, 3 if color else 1)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = np.array([12, 9], ">u4").tobytes() + bytes([16, 2 if color else 0, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(
        np.array([len(data)], ">u4").tobytes() + kind + data + np.array([zlib.crc32(kind + data)], ">u4").tobytes()
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
def test_damaged_files_are_skipped_and_the_others_are_read(tmp_path, color):
    deep_png(tmp_path / "a.png", color)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (12, 9)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    for place in range(45, len(content) - 20, 40):  # inside the compressed pixels
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / f"c{place:03}.png").write_bytes(damaged)
    command = [sys.executable, "-c", CODE, str(tmp_path), "3" if color else "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "a.png True" and len(others) > 3
    assert all(line.endswith("skipped") for line in others)
