from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ssl_lib.data import ArrayData, FolderData, pixel_statistics
from ssl_lib.data.center_crop import resize_and_crop
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.errors import DataError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 57, 3), dtype=np.uint8)


def preprocessing(size=16, resize=18, **options):
    return Preprocessing(size=size, resize=resize, mean=MEAN, std=STD, **options)


def expected(pixels):
    """torchvision's own resize and crop, and the normalization in float64."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    image = F.center_crop(F.resize(image, [18], InterpolationMode.BICUBIC, antialias=True), [16, 16])
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    return ((image.double() / 255 - mean) / std).float()


def test_every_kind_of_raw_image_gives_the_same_input():
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    inputs = preprocessing()
    turned = Image.fromarray(np.rot90(PIXELS))
    turned.getexif()[274] = 6  # to display, rotate by 90 degrees clockwise
    for raw in (tensor[None], Image.fromarray(PIXELS), turned, inputs.arrange(tensor)[None]):
        torch.testing.assert_close(inputs(raw)[0], expected(PIXELS), rtol=1e-6, atol=1e-6)
    assert inputs.arrange(tensor).dtype == torch.uint8 and inputs.shape == (3, 16, 16)


def test_float_images_are_in_the_unit_interval():
    image = torch.rand(1, 3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(preprocessing()(image), (image - mean) / std)
    large = preprocessing().arrange(torch.rand(3, 40, 60).round())  # bicubic interpolation overshoots
    assert large.dtype == torch.float32 and large.min() >= 0 and large.max() <= 1
    with pytest.raises(ValueError, match=r"float images must be in \[0, 1\]"):
        preprocessing()(image * 255)


def test_gray_images_are_expanded_and_other_channels_are_refused():
    gray = torch.randint(256, (2, 1, 20, 20), dtype=torch.uint8)
    assert torch.equal(preprocessing()(gray), preprocessing()(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 3, H, W\)"):
        preprocessing()(torch.zeros(1, 4, 20, 20, dtype=torch.uint8))


def test_attributes_survive_json():
    inputs = preprocessing(range=(0.0, 4095.0), depth=16, bands=(2, 1, 0))
    assert Preprocessing(**json.loads(json.dumps(inputs.plain()))) == inputs
    assert Preprocessing(**json.loads(json.dumps(preprocessing().plain()))) == preprocessing()


def test_preprocessing_of_a_data_set(tmp_path):
    square = ArrayData(np.zeros((2, 8, 8, 3), np.uint8), mean=MEAN, std=STD)
    assert Preprocessing.of(square) == Preprocessing(size=8, resize=8, mean=MEAN, std=STD)
    assert Preprocessing.of(square, 16).resize == 18 and Preprocessing.of(square, 16, 20).resize == 20
    wide = ArrayData(np.zeros((2, 8, 9, 3), np.uint8), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="images of 8 x 9: set size in pixels"):
        Preprocessing.of(wide)
    with pytest.raises(ValueError, match="no mean and std: pass the preprocessing of the training images"):
        Preprocessing.of(ArrayData(np.zeros((2, 8, 8, 3), np.uint8)))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    data = FolderData(tmp_path, bands=(2, 0), range=(0.0, 200.0))
    found = Preprocessing.of(data, 16)
    assert (found.bands, found.range, found.channels) == ((2, 0), (0.0, 200.0), 2)
    picture = found.arrange(Image.fromarray(PIXELS))
    assert torch.equal(picture, found.arrange(data.read(0)))


def test_picture_has_colors_for_display():
    for channels, shown in ((1, 1), (2, 1), (3, 3), (5, 3)):
        raw = torch.rand(channels, 4, 5)
        picture = preprocessing().picture(raw)
        assert torch.equal(picture, raw[:shown].mul(255).round().byte())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_long_images_are_cropped_before_they_are_resized(dtype, monkeypatch):
    """A resized image of 1 x 5000 pixels would have 1.3 million columns."""
    areas = []
    resize = F.resize

    def measured(images, *arguments, **options):
        made = resize(images, *arguments, **options)
        areas.append(made.shape[-1] * made.shape[-2])
        return made

    monkeypatch.setattr("ssl_lib.data.center_crop.F.resize", measured)
    for shape in ((3, 1, 5000), (3, 4000, 2), (3, 30, 3000)):
        image = torch.randint(256, shape, dtype=torch.uint8)
        image = image if dtype == torch.uint8 else image.float() / 255
        assert resize_and_crop(image, 64).shape == (3, 64, 64)
    assert max(areas) < 16 * 73 * 73


def test_cropping_long_images_first_changes_only_rounding():
    image = torch.randint(256, (3, 20, 400), dtype=torch.uint8)
    whole = F.resize(image, [40], InterpolationMode.BICUBIC, antialias=True)
    reference = F.center_crop(whole, [32, 32]).int()
    assert (resize_and_crop(image, 32, 40).int() - reference).abs().max() <= 1


def test_pixel_statistics_equal_numpy():
    images = np.random.default_rng(1).integers(0, 256, (50, 6, 7, 3), dtype=np.uint8)
    mean, std = pixel_statistics(ArrayData(images))
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-12)
    real = pixel_statistics(ArrayData((images / 255).astype(np.float32)))
    np.testing.assert_allclose(real, (mean, std), rtol=1e-12)
    assert pixel_statistics(ArrayData(np.zeros((3, 2, 2), np.uint8))) == ((0.0,), (1.0,))


def uncropped(image, size, shorter_side):
    whole = F.resize(image, [shorter_side], InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(whole, [size, size])


@pytest.mark.parametrize("size", [1, 9, 32])
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 301), (7, 301), (40, 400), (396, 44), (100, 900)])
def test_center_of_long_images_equals_the_uncropped_result(shape, size):
    """The resized length is a whole number of pixels in these cases, so that both use the same grid."""
    shorter_side = shape[0] if 301 in shape else 2 * size
    image = torch.randint(256, (3, *shape), dtype=torch.uint8)
    expected = uncropped(image, size := min(size, shorter_side), shorter_side)
    assert (resize_and_crop(image, size, shorter_side).int() - expected.int()).abs().max() <= 1


def test_center_of_other_long_images_is_off_by_half_a_pixel_at_most():
    ramp = torch.arange(1001, dtype=torch.float32).div(1000).expand(1, 30, -1)
    found, expected = resize_and_crop(ramp, 32, 37), uncropped(ramp, 32, 37)
    assert (found - expected).abs().max() <= 0.5 * 30 / 37 / 1000 + 1e-5


@pytest.mark.parametrize("shape", [(16, 16), (5, 9), (200, 300), (20, 160), (160, 20), (17, 1)])
def test_images_of_ordinary_shape_equal_torchvision_bit_by_bit(shape):
    image = torch.randint(256, (3, *shape), dtype=torch.uint8)
    if max(shape) <= 8 * min(shape):
        assert torch.equal(resize_and_crop(image, 16), uncropped(image, 16, 18))
        batch = torch.stack([image, image.flip(2)])
        assert torch.equal(resize_and_crop(batch, 16, 16), uncropped(batch, 16, 16))
    assert resize_and_crop(image, 16).shape == (3, 16, 16)


def test_another_size_resizes_to_the_usual_length():
    inputs = preprocessing(16, 16, depth=16, range=(0, 100))
    assert inputs.at(16) is inputs
    assert inputs.at(224) == preprocessing(224, 256, depth=16, range=(0, 100))
    assert (inputs.kind, inputs.channels, inputs.at(8).shape) == ("image", 3, (3, 8, 8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "1 <= size <= resize"),
        ({"size": 17, "resize": 16}, "1 <= size <= resize"),
        ({"mean": (0.5,)}, "one mean and std per channel"),
        ({"mean": (), "std": ()}, "one mean and std per channel"),
        ({"mean": (128.0,) * 3}, "divide the statistics of uint8 pixels by 255"),
        ({"std": (0.0,) * 3}, "std above 0"),
        ({"std": (float("nan"),) * 3}, "std above 0"),
        ({"depth": 12}, "depth must be 8 or 16"),
        ({"range": (5, 5)}, "rising order"),
        ({"bands": [0, 1]}, r"bands \[0, 1\] need one mean and std each, got 3"),
    ],
)
def test_wrong_attributes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"size": 8, "resize": 9, "mean": MEAN, "std": STD, **values})


@pytest.mark.parametrize("value", [255.0, -0.5, float("nan")])
@pytest.mark.parametrize("side", [16, 30])
def test_float_values_out_of_range_are_refused_before_resizing_clamps_them(side, value):
    image = torch.rand(1, 3, side, side)
    image[0, 1, 2, 3] = value
    for read in (preprocessing(), preprocessing().arrange):
        with pytest.raises(ValueError, match=r"float images must be in \[0, 1\], got"):
            read(image)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_empty_batches_stay_empty_and_empty_images_are_refused(dtype):
    for side in (16, 30):
        assert preprocessing()(torch.zeros(0, 3, side, side, dtype=dtype)).shape == (0, 3, 16, 16)
    with pytest.raises(ValueError, match=r"got \w+ \(1, 3, 0, 5\)"):
        preprocessing()(torch.zeros(1, 3, 0, 5, dtype=dtype))


def test_pictures_keep_sixteen_bits_at_depth_16():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 3 + 40_000
    inputs = Preprocessing(size=16, resize=16, mean=(0.5,), std=(0.5,), depth=16)
    arranged = inputs.arrange(Image.fromarray(values))
    assert arranged.dtype == torch.float32
    np.testing.assert_allclose(arranged[0].numpy() * 65535, values, atol=0.01)


def test_statistics_of_dark_float_images_are_exact():
    images = np.random.default_rng(1).integers(0, 100, (20, 6, 7, 2)) / 65535  # less than one step of 8 bits
    mean, std = pixel_statistics(ArrayData(images.astype(np.float32)))
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, images.std((0, 1, 2)), rtol=1e-6)


def test_statistics_leave_out_unreadable_images(tmp_path):
    for index, level in enumerate((0, 255, 90)):
        Image.new("L", (4, 4), level).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    assert pixel_statistics(FolderData(tmp_path, 1, on_error="skip")) == ((0.5,), (0.5,))
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        pixel_statistics(FolderData(tmp_path, 1))
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="none of 3 images can be read"):
        pixel_statistics(FolderData(tmp_path, 1, on_error="skip"))


def test_statistics_of_many_images_use_an_evenly_spaced_sample():
    images = np.zeros((5000, 2, 2), np.uint8)
    images[2500:] = 255
    assert pixel_statistics(ArrayData(images)) == ((0.5,), (0.5,))
