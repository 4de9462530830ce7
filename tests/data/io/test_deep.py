"""JPEG 2000, AVIF and HEIC images of 9 to 16 bits: exact values, compared with the arrays that were encoded."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import FolderData, ShardData
from ssl_lib.data.io.decode import Decoder
from ssl_lib.errors import DataError
from tests.data.shard_samples import write

codecs = pytest.importorskip("imagecodecs")
RNG = np.random.default_rng(0)


def values(bits, bands):
    """Pixels (16, 24, bands) of all values, with some black and white ones."""
    pixels = RNG.integers(0, 2**bits, (16, 24, bands)).astype(np.uint16)
    pixels[0, 0], pixels[0, 1] = 0, 2**bits - 1
    return pixels


def encoded(kind, bits, pixels):
    array = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if kind == "jp2":
        content = codecs.jpeg2k_encode(array, level=0, reversible=True, bitspersample=bits)
    elif kind == "avif":
        content = codecs.avif_encode(array, level=100, bitspersample=bits, pixelformat="444")
    else:
        heif = pytest.importorskip("pillow_heif")
        mode = {1: "L;16", 3: "RGB;16", 4: "RGBA;16"}[pixels.shape[2]]
        image = heif.from_bytes(mode, (24, 16), (pixels << (16 - bits)).astype("<u2").tobytes())
        file = io.BytesIO()
        image.save(file, quality=-1, chroma=444, matrix_coefficients=0)  # lossless
        content = file.getvalue()
    return bytes(content)


CASES = [("jp2", 9), ("jp2", 10), ("jp2", 12), ("jp2", 16), ("avif", 10), ("avif", 12), ("heic", 10)]


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_all_bits_of_a_color_image_are_kept_at_depth_16(tmp_path, kind, bits):
    pixels = values(bits, 3)
    content = encoded(kind, bits, pixels)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"a.{kind}").write_bytes(content)
    write(tmp_path / "a.tar", [(f"a.{kind}", content)])
    unit = pixels.transpose(2, 0, 1).astype(np.float64) / (2**bits - 1)
    for data in (FolderData(tmp_path / "images", depth=16), ShardData(str(tmp_path / "a.tar"), depth=16)):
        np.testing.assert_allclose(data.read(0), unit, rtol=0, atol=0.51 / 65535)
    stretched = Decoder(range=(16384, 49151), depth=16).decode(content)
    np.testing.assert_allclose(stretched, np.clip((unit * 65535 - 16384) / 32767, 0, 1), rtol=0, atol=2 / 65535)


@pytest.mark.parametrize(("kind", "bits"), CASES)
@pytest.mark.parametrize("bands", [1, 3])
def test_eight_bits_are_those_of_the_scaled_values(kind, bits, bands):
    """Pillow adds half a step to color JPEG 2000 images before it drops bits, so that white becomes black."""
    pixels = values(bits, bands)
    read = Decoder(channels=bands).decode(encoded(kind, bits, pixels))
    assert read.dtype == torch.uint8
    expected = pixels.transpose(2, 0, 1) / (2**bits - 1) * 255
    np.testing.assert_allclose(read, expected, rtol=0, atol=1 if kind == "avif" else 1.01)
    assert read[:, 0, 0].tolist() == [0] * bands and read[:, 0, 1].tolist() == [255] * bands


@pytest.mark.parametrize(("kind", "bits"), [("jp2", 12), ("avif", 10), ("heic", 10)])
def test_alpha_of_deep_images_is_composited_onto_white(kind, bits):
    pixels = values(bits, 4)
    content = encoded(kind, bits, pixels)
    if kind == "jp2":
        with pytest.raises(ValueError, match="4 bands, none of them marked as alpha"):
            Decoder(depth=16).decode(content)
        content = marked_as_alpha(content)
    unit = pixels / (2**bits - 1)
    expected = unit[..., :3] * unit[..., 3:] + 1 - unit[..., 3:]
    read = Decoder(depth=16).decode(content)
    np.testing.assert_allclose(read, expected.transpose(2, 0, 1), rtol=0, atol=2 / 65535)


def marked_as_alpha(content):
    """Adds a channel definition to a JPEG 2000 file, in which the fourth channel is the opacity."""
    start = content.find(b"jp2h") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    channels = np.array([4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0], ">u2").tobytes()
    box = (8 + len(channels)).to_bytes(4, "big") + b"cdef" + channels
    header = (size + len(box)).to_bytes(4, "big") + content[start + 4 : start + size] + box
    return content[:start] + header + content[start + size :]


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "PNG"])
def test_files_of_eight_bits_need_no_other_decoder(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    file = io.BytesIO()
    pixels = values(8, 3).astype(np.uint8)
    options = {"JPEG2000": {"irreversible": False}, "AVIF": {"quality": 100}, "PNG": {}}
    Image.fromarray(pixels).save(file, kind, **options[kind])
    with Image.open(file) as image:
        expected = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal(np.rint(Decoder(depth=16).decode(file.getvalue()).numpy() * 255), expected)
    assert np.array_equal(Decoder().decode(file.getvalue()), expected)


@pytest.mark.parametrize(("kind", "depth"), [("jp2", 8), ("jp2", 16), ("avif", 16)])
def test_a_missing_decoder_is_named(tmp_path, monkeypatch, kind, depth):
    (tmp_path / f"a.{kind}").write_bytes(encoded(kind, 12, values(12, 3)))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    name = {"jp2": "JPEG2000", "avif": "AVIF"}[kind]
    with pytest.raises(DataError, match=rf"a {name} image of 12 bits needs .*imagecodecs.*ssl_lib\[tiff\]"):
        FolderData(tmp_path, depth=depth).read(0)


def test_jpeg_2000_in_another_color_space_is_refused():
    content = bytearray(encoded("jp2", 12, values(12, 3)))
    place = content.find(b"colr") + 7
    assert content[place : place + 4] == (16).to_bytes(4, "big")
    content[place : place + 4] = (18).to_bytes(4, "big")  # sYCC
    with pytest.raises(ValueError, match="must be gray or RGB, got color space 18"):
        Decoder(depth=16).decode(bytes(content))


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_truncated_files_are_refused(kind, bits):
    content = encoded(kind, bits, values(bits, 3))
    with pytest.raises(Exception):  # noqa: B017  (each decoder has its own)
        Decoder(depth=16).decode(content[: len(content) * 2 // 3])
