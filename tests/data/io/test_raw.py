"""Images with 16 bits, several bands or alpha: exact values, compared with the arrays that were saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.raw import raw_array, to_unit

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (9, 12), dtype=np.uint16)
DEEP = RNG.integers(0, 65536, (9, 12, 5), dtype=np.uint16)
COLOR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)


def pixels(source, **arguments):
    return Decoder(**arguments).decode(source).permute(1, 2, 0).numpy()


def save(path, array, **options):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    elif path.suffix == ".png" and array.ndim == 3:
        path.write_bytes(pytest.importorskip("imagecodecs").png_encode(array))
    elif path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        pytest.importorskip("tifffile").imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.npz"])
def test_range_maps_twelve_bits_to_uint8(tmp_path, name):
    path = save(tmp_path / name, TWELVE)
    np.testing.assert_array_equal(pixels(path, channels=1)[..., 0], np.rint(TWELVE / 65535 * 255))
    for limits in ((0, 4095), (1000, 3000)):
        unit = np.clip((TWELVE.astype(float) - limits[0]) / (limits[1] - limits[0]), 0, 1)
        np.testing.assert_array_equal(pixels(path, channels=1, range=limits)[..., 0], np.rint(unit * 255))
        np.testing.assert_allclose(pixels(path, channels=1, range=limits, depth=16)[..., 0], unit, atol=1e-6)
    low, high = np.percentile(TWELVE, (1, 99))
    expected = np.clip((TWELVE - low) / (high - low), 0, 1)
    np.testing.assert_allclose(pixels(path, range="percentile", depth=16)[..., 1], expected, atol=1e-6)


@pytest.mark.parametrize(("name", "bands"), [("a.png", 1), ("a.png", 3), ("a.tif", 1), ("a.tif", 3), ("a.npy", 3)])
def test_depth_16_keeps_all_bits(tmp_path, name, bands):
    array = DEEP[..., :bands].squeeze() if bands == 1 else DEEP[..., :bands]
    path = save(tmp_path / name, np.ascontiguousarray(array), photometric="rgb" if bands == 3 else "minisblack")
    deep = Decoder(channels=bands, depth=16).decode(path)
    assert deep.dtype == torch.float32
    np.testing.assert_array_equal(np.rint(deep.permute(1, 2, 0).numpy() * 65535), DEEP[..., :bands])
    np.testing.assert_allclose(pixels(path, channels=bands), DEEP[..., :bands] / 257, atol=1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("count", [2, 4, 5])
def test_bands_of_tiff_files_are_kept_or_chosen_or_refused(tmp_path, kind, planar, count):
    array = (DEEP[..., :count] >> (0 if kind == np.uint16 else 8)).astype(kind)
    extra = {"photometric": "rgb" if count > 2 else "minisblack", "extrasamples": [0] * (count - (1, 3)[count > 2])}
    stored = array if planar == "contig" else np.ascontiguousarray(array.transpose(2, 0, 1))
    path = save(tmp_path / "a.tif", stored, planarconfig=planar, **extra)
    highest = np.iinfo(kind).max
    everything = Decoder(bands="all", channels=count, depth=16)
    np.testing.assert_array_equal(np.rint(everything.decode(path).permute(1, 2, 0).numpy() * highest), array)
    np.testing.assert_array_equal(pixels(path, bands=(1, 0)), np.rint(array[..., [1, 0]] / highest * 255))
    np.testing.assert_array_equal(pixels(path.read_bytes(), bands=[1]), np.rint(array[..., [1]] / highest * 255))
    with pytest.raises(ValueError, match=rf"has {count} bands, none of them marked as alpha: .*data\.bands=all"):
        Decoder().decode(path)
    with pytest.raises(ValueError, match=rf"has {count} bands, but data\.bands names band {count}"):
        Decoder(bands=(0, count)).decode(path)


def test_fourth_band_without_extra_samples_is_not_alpha(tmp_path):
    infrared = np.dstack([COLOR, COLOR[..., :1]])
    Image.fromarray(infrared).save(tmp_path / "alpha.tif")  # Pillow marks it as alpha
    path = save(tmp_path / "a.tif", infrared, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ValueError, match="4 bands"):
        Decoder().decode(path)
    np.testing.assert_array_equal(pixels(path, bands=(3, 0, 1)), infrared[..., [3, 0, 1]])
    assert Decoder().decode(tmp_path / "alpha.tif").shape == (3, 9, 12)


@pytest.mark.parametrize(
    ("extra", "kind"), [("unassalpha", np.uint8), ("unassalpha", np.uint16), ("assocalpha", np.uint16)]
)
@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_that_the_file_marks_is_composited_onto_white(tmp_path, extra, kind, depth):
    highest = np.iinfo(kind).max
    color, alpha = DEEP[..., :3] % (highest + 1.0), DEEP[..., 3:4] % (highest + 1.0)
    expected = color / highest * (alpha / highest) + 1 - alpha / highest
    stored = np.rint(color * alpha / highest) if extra == "assocalpha" else color
    array = np.concatenate([stored, alpha], 2).astype(kind)
    path = save(tmp_path / "a.tif", array, photometric="rgb", extrasamples=[extra])
    result = pixels(path, depth=depth) / (255 if depth == 8 else 1)
    np.testing.assert_allclose(result, expected, atol=2.5 / 255 if depth == 8 else 1e-4)


@pytest.mark.parametrize("limits", ["percentile", (50, 200)])
def test_range_does_not_change_the_opacity(tmp_path, limits):
    Image.fromarray(np.dstack([COLOR, np.full((9, 12), 255, np.uint8)])).save(tmp_path / "a.png")
    Image.fromarray(COLOR).save(tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png", range=limits), pixels(tmp_path / "b.png", range=limits))


def test_jpeg_2000_has_alpha_only_if_its_channel_definition_says_so(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    array = RNG.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "alpha.jp2", irreversible=False)
    opacity = array[..., 3:] / 255
    np.testing.assert_allclose(pixels(tmp_path / "alpha.jp2"), array[..., :3] * opacity + 255 * (1 - opacity), atol=1)
    path = tmp_path / "infrared.jp2"
    path.write_bytes(codecs.jpeg2k_encode(array, level=0, codecformat="jp2", reversible=True))
    np.testing.assert_array_equal(pixels(path, bands="all", channels=4), array)
    with pytest.raises(ValueError, match="4 bands"):
        Decoder().decode(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_orientation_equals_pillow_at_any_depth(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOR).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    for arguments in ({}, {"range": (0, 255)}, {"bands": (0, 1, 2)}):
        np.testing.assert_array_equal(pixels(tmp_path / name, **arguments), expected)
    deep = save(tmp_path / "deep.tif", DEEP, extratags=[(274, "H", 1, orientation, True)], photometric="rgb")
    reference = np.stack([_turned(band, orientation) for band in DEEP.transpose(2, 0, 1)], 2)
    np.testing.assert_array_equal(np.rint(pixels(deep, bands="all", channels=5, depth=16) * 65535), reference)


def _turned(band, orientation):
    image = Image.fromarray(band.astype(np.int32))
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_zero_is_white_where_the_tiff_file_says_so(tmp_path, kind):
    gray = (DEEP[..., 0] >> (0 if kind == np.uint16 else 8)).astype(kind)
    path = save(tmp_path / "a.tif", gray, photometric="miniswhite")
    expected = 1 - gray / np.iinfo(kind).max
    np.testing.assert_allclose(pixels(path, channels=1, depth=16)[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(pixels(path, channels=1)[..., 0], expected * 255, atol=0.51)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"])
def test_pil_images_of_every_mode_give_the_same_pixels_with_and_without_a_range(mode):
    if mode.startswith("I"):
        image = Image.fromarray(DEEP[..., 0] if mode == "I;16" else DEEP[..., 0].astype(np.int32))
    else:
        steps = {"PA": ["RGBA", "PA"], "LAB": []}.get(mode, [mode])
        image = Image.fromarray(COLOR) if mode != "LAB" else Image.fromarray(COLOR, "LAB")
        for step in steps:
            image = image.convert(step)
    ordinary = Decoder().picture(image).float() / 255
    assert (Decoder(depth=16).picture(image) - ordinary).abs().max() <= (2 / 255 if "A" in mode else 0.51 / 255)


def test_arrays_are_images_of_any_shape_type_and_source(tmp_path):
    path = save(tmp_path / "a.npy", DEEP)
    np.testing.assert_array_equal(np.rint(pixels(path, bands="all", channels=5, depth=16) * 65535), DEEP)
    np.testing.assert_array_equal(pixels(path.read_bytes(), bands=(4, 2)), np.rint(DEEP[..., [4, 2]] / 257))
    np.savez(tmp_path / "b.npz", other=DEEP, image=COLOR)
    np.testing.assert_array_equal(pixels(tmp_path / "b.npz"), COLOR)
    np.testing.assert_array_equal(pixels((tmp_path / "b.npz").read_bytes()), COLOR)
    np.testing.assert_array_equal(pixels(save(tmp_path / "c.npy", COLOR > 99)), (COLOR > 99) * 255)
    unit = save(tmp_path / "d.npy", (COLOR / 255).astype(np.float32))
    np.testing.assert_array_equal(pixels(unit, range=(0, 1)), COLOR)
    with pytest.raises(ValueError, match=r"float32 values from .* have no known range; set data\.range"):
        Decoder().decode(unit)


@pytest.mark.parametrize("shape", [(3, 64, 48), (4, 9, 12), (12, 64, 48), (13, 32, 32)])
def test_arrays_with_the_channels_first_are_refused(tmp_path, shape):
    path = save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"stack of images, or has its channels first: .* image\.transpose\(1, 2, 0\)"):
        Decoder(bands="all", channels=shape[2]).decode(path)
    turned = save(tmp_path / "b.npy", np.zeros(shape, np.uint8).transpose(1, 2, 0))
    assert raw_array(turned).shape == (*shape[1:], shape[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": COLOR, "b": COLOR}, "expected one array, or one named 'image', found a, b"),
        ({}, "found none"),
        ({"image": COLOR[None]}, r"must have shape \(H, W\) or \(H, W, C\), got \(1, 9, 12, 3\)"),
        ({"image": COLOR[:0]}, "got"),
        ({"image": np.full((9, 12), np.nan)}, "finite, got NaN"),
        ({"image": np.full((9, 12), np.inf, np.float16)}, "finite, got NaN or infinity"),
        ({"image": np.full((9, 12), -1)}, "no known range"),
        ({"image": np.array([[{}]])}, "Python objects|allow_pickle"),
    ],
)
def test_arrays_that_are_not_images_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    for limits in ("auto", (0, 1)) if "finite" in message else ("auto",):
        with pytest.raises(Exception, match=message):
            Decoder(range=limits).decode(tmp_path / "a.npz")


def test_constant_images_have_no_percentiles():
    assert not to_unit(np.full((4, 4, 1), 7, np.uint16), "percentile").any()
