from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lib.data import decode_image
from ssl_lib.data.io import decode
from ssl_lib.data.io.decode import Decoder

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (9, 12), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (9, 12), dtype=np.uint8)


def add(path, image=COLOR, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def mode(path):
    with Image.open(path) as image:
        return image.mode


def pixels(path, channels=3):
    image = decode_image(path, channels)
    assert image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == channels
    return image.permute(1, 2, 0).numpy()


def on_white(color, alpha):
    alpha = alpha[..., None].astype(np.float64) / 255
    return color * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.webp"])
def test_lossless_formats_keep_the_pixels(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    np.testing.assert_array_equal(pixels(add(tmp_path / name, COLOR, **options)), COLOR)


def test_gray_and_color_are_converted_to_each_other(tmp_path):
    gray, color = add(tmp_path / "g.png", GRAY), add(tmp_path / "c.png", COLOR)
    np.testing.assert_array_equal(pixels(gray), GRAY[..., None].repeat(3, -1))
    np.testing.assert_array_equal(pixels(gray, 1)[..., 0], GRAY)
    luma = COLOR @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(pixels(color, 1)[..., 0], luma, atol=0.51)


def test_one_bit_and_palette_images(tmp_path):
    bits = GRAY > 127
    np.testing.assert_array_equal(pixels(add(tmp_path / "bits.png", bits), 1)[..., 0], bits * 255)
    indexed = Image.fromarray(GRAY % 4)
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]])
    np.testing.assert_array_equal(pixels(add(tmp_path / "p.png", indexed)), table[GRAY % 4])
    clear = add(tmp_path / "clear.png", indexed, transparency=2)
    table[2] = 255
    np.testing.assert_array_equal(pixels(clear), table[GRAY % 4])


def test_transparent_images_are_composited_onto_white(tmp_path):
    rgba = add(tmp_path / "rgba.png", np.dstack([COLOR, ALPHA]))
    np.testing.assert_allclose(pixels(rgba), on_white(COLOR, ALPHA), atol=1)
    la = add(tmp_path / "la.png", np.dstack([GRAY, ALPHA]))
    assert (mode(rgba), mode(la)) == ("RGBA", "LA")
    np.testing.assert_allclose(pixels(la), on_white(GRAY[..., None].repeat(3, -1), ALPHA), atol=1)
    np.testing.assert_allclose(pixels(la, 1), on_white(GRAY[..., None], ALPHA), atol=1)
    key = add(tmp_path / "key.png", COLOR, transparency=tuple(COLOR[0, 0].tolist()))
    expected = COLOR.copy()
    expected[np.equal(COLOR, COLOR[0, 0]).all(-1)] = 255
    np.testing.assert_array_equal(pixels(key), expected)


def test_cmyk_images_are_converted_to_rgb(tmp_path):
    bands = [*np.ascontiguousarray(COLOR.transpose(2, 0, 1)), ALPHA]
    path = add(tmp_path / "cmyk.tif", Image.merge("CMYK", [Image.fromarray(band) for band in bands]))
    assert mode(path) == "CMYK"
    ink, black = 255.0 - COLOR, 255.0 - ALPHA[..., None]
    np.testing.assert_allclose(pixels(path), ink * black / 255, atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_values_are_scaled_not_clipped(tmp_path, name):
    deep = RNG.integers(0, 65536, (9, 12), dtype=np.uint16)
    deep.flat[:4] = 0, 65535, 128, 129  # 129 is the first value that rounds to 1
    path = add(tmp_path / name, deep)
    expected = np.rint(deep / 257)
    np.testing.assert_array_equal(pixels(path, 1)[..., 0], expected)
    np.testing.assert_array_equal(pixels(path), expected[..., None].repeat(3, -1))


def test_big_endian_and_32_bit_gray_images(tmp_path):
    deep = RNG.integers(0, 65536, (9, 12)).astype(">u2")
    big = add(tmp_path / "big.tif", Image.frombytes("I;16B", (12, 9), deep.tobytes()))
    np.testing.assert_array_equal(pixels(big, 1)[..., 0], np.rint(deep / 257))
    wide = add(tmp_path / "wide.tif", deep.astype(np.int32))
    assert (mode(big), mode(wide)) == ("I;16B", "I")
    np.testing.assert_array_equal(pixels(wide, 1)[..., 0], np.rint(deep / 257))
    for name, values in (("over.tif", deep.astype(np.int32) + 65536), ("float.tif", np.float32(deep))):
        add(tmp_path / name, values)
        with pytest.raises(ValueError, match="8 or 16 bits"):
            decode_image(tmp_path / name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turn = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = turn[orientation]
    np.testing.assert_array_equal(pixels(add(tmp_path / "a.png", COLOR, exif=exif)), upright(COLOR))
    deep = RNG.integers(0, 65536, (9, 12), dtype=np.uint16)
    path = add(tmp_path / "deep.png", deep, exif=exif)
    np.testing.assert_array_equal(pixels(path, 1)[..., 0], np.rint(upright(deep) / 257))
    for name, options in (("a.jpg", {"quality": 90}), ("a.webp", {"lossless": True}), ("a.tif", {})):
        stored = pixels(add(tmp_path / name, COLOR, **options))
        np.testing.assert_array_equal(pixels(add(tmp_path / name, COLOR, exif=exif, **options)), upright(stored))


OPTIONS = [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("operator", [decode._decode_jpeg, None])
def test_jpeg_pixels_equal_pillow(tmp_path, options, operator, monkeypatch):
    monkeypatch.setattr(decode, "_decode_jpeg", operator)
    for kind in ("RGB", "L", "CMYK"):
        image = Image.fromarray(RNG.integers(0, 256, (41, 67, 3), dtype=np.uint8)).resize((131, 77)).convert(kind)
        path = add(tmp_path / "a.jpg", image, **options)
        with Image.open(path) as reference:
            assert reference.mode == kind
            np.testing.assert_array_equal(pixels(path), np.asarray(reference.convert("RGB")))
            np.testing.assert_array_equal(pixels(path, 1)[..., 0], np.asarray(reference.convert("L")))


def test_cmyk_jpegs_are_not_inverted(tmp_path):
    color = np.full((16, 16, 4), (0, 255, 255, 0), np.uint8)  # red
    path = add(tmp_path / "a.jpg", Image.frombytes("CMYK", (16, 16), color.tobytes()), quality=100)
    np.testing.assert_allclose(pixels(path), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=2)


def test_decoded_image_is_writable_and_channels_last(tmp_path):
    for name in ("a.jpg", "a.png", "a.webp"):
        image = decode_image(add(tmp_path / name))
        assert image[None].is_contiguous(memory_format=torch.channels_last)
        image.zero_()  # writable
        assert decode_image(tmp_path / name).any()


def test_truncated_jpeg_raises_an_error(tmp_path):
    path = add(tmp_path / "a.jpg", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(OSError, match="truncated"):
        decode_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.npy", "a.tif"])
def test_images_with_too_many_pixels_are_refused(tmp_path, name):
    path = tmp_path / name
    np.save(path, COLOR) if name == "a.npy" else add(path)
    assert Decoder(max_pixels=9 * 12).decode(path).shape == (3, 9, 12)
    for source in (path, path.read_bytes()):
        too_many = r"12 x 9 pixels are more than max_pixels=107: raise data\.max_pixels"
        with pytest.raises((ValueError, Image.DecompressionBombError), match=too_many):
            Decoder(max_pixels=107).decode(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, "channels must be 3"),
        ({"bands": []}, "indices from 0, or 'all'"),
        ({"bands": (0, -1)}, r"got \[0, -1\]"),
        ({"bands": "every"}, "got 'every'"),
        ({"range": (5, 5)}, "two values in rising order"),
        ({"range": "minmax"}, "got minmax"),
        ({"range": (0.0, float("nan"))}, "rising order"),
        ({"depth": 12}, "depth must be 8 or 16, got 12"),
        ({"pages": "last"}, "pages must be 'first' or 'all', got 'last'"),
        ({"max_pixels": 0}, "at least 1"),
    ],
)
def test_invalid_argument_raises_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        Decoder(**arguments)
