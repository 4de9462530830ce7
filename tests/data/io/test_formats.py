"""Every file ending that is read, in every way in, and the report of the files that are left out."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, features

from ssl_lib.data import FolderData, ShardData, WrappedDataset, decode_image
from ssl_lib.data.base import DataWarning
from ssl_lib.data.io import formats
from ssl_lib.data.io.formats import EXTENSIONS, ending, extensions, hint
from ssl_lib.errors import DataError
from tests.data.shard_samples import write

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((48, 32)))
LOSSY = {".mpo", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".avif", ".heic", ".heif"}
OPTIONS = {
    ".webp": {"lossless": True},
    ".jp2": {"irreversible": False},
    ".ico": {"sizes": [(48, 32)]},
    ".heic": {"quality": 100},
}


def encoded(kind):
    """Returns a file with an ending, and its pixels (H, W, 3)."""
    file = io.BytesIO()
    if kind in (".npy", ".npz"):
        (np.save if kind == ".npy" else np.savez)(file, COLOR)
        return file.getvalue(), COLOR
    if kind in (".heic", ".heif"):
        heif = pytest.importorskip("pillow_heif")
        heif.from_bytes("RGB", (48, 32), SMOOTH.tobytes()).save(file, quality=100)
        return file.getvalue(), SMOOTH
    image = Image.fromarray(SMOOTH if kind in LOSSY else COLOR)
    image = image.convert({".pgm": "L", ".pbm": "1"}.get(kind, "RGB"))
    name = {".jpe": "JPEG", ".jfif": "JPEG", ".jpx": "JPEG2000"}.get(kind) or Image.registered_extensions()[kind]
    image.save(file, name, **OPTIONS.get(kind, {}))
    return file.getvalue(), np.asarray(image.convert("RGB"))


AVAILABLE = [kind for kind in extensions() if kind != ".j2k"]


@pytest.mark.parametrize("kind", AVAILABLE)
def test_every_ending_gives_the_right_pixels_from_folders_and_shards(tmp_path, kind):
    content, expected = encoded(kind)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"a{kind.upper()}").write_bytes(content)
    write(tmp_path / "a.tar", [(f"a{kind}", content)])
    for data in (FolderData(tmp_path / "images"), ShardData(str(tmp_path / "a.tar"))):
        pixels = data.read(0).permute(1, 2, 0).numpy().astype(int)
        if kind in LOSSY:
            assert pixels.shape == expected.shape and np.abs(pixels - expected).mean() < 8
        else:
            np.testing.assert_array_equal(pixels, expected)


def test_the_tests_cover_all_endings_that_this_machine_can_read():
    assert set(EXTENSIONS) <= set(AVAILABLE)
    assert (".jp2" in AVAILABLE) == features.check("jpg_2000") and (".avif" in AVAILABLE) == features.check("avif")
    assert (".heic" in AVAILABLE) == bool(find_spec("pillow_heif"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_give_their_first_frame(tmp_path, kind):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / f"a.{kind}", kind, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(tmp_path / f"a.{kind}") == 10).all()


def test_multi_picture_files_of_phones_give_their_first_picture(tmp_path):
    first, preview = Image.fromarray(SMOOTH), Image.fromarray(COLOR).resize((8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
        expected = np.rot90(np.asarray(image), -1)
        wrapped = WrappedDataset([image]).read(0)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.jpg").permute(1, 2, 0).numpy(), expected)
    np.testing.assert_array_equal(wrapped.permute(1, 2, 0).numpy(), expected)


def test_heic_files_are_read_whatever_their_name(tmp_path):
    content, expected = encoded(".heic")
    (tmp_path / "IMG.JPG").write_bytes(content)
    pixels = decode_image(tmp_path / "IMG.JPG").permute(1, 2, 0).numpy()
    assert np.abs(pixels.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", ".jpg"), ("a.tar.GZ", ".gz"), ("README", "no ending"), (".hidden", "no ending"), ("a.", ".")],
)
def test_ending_of_a_name(name, expected):
    assert ending(name) == expected


def folder_of(tmp_path, names):
    for name in names:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(".png")[0] if name.endswith((".png", ".jpg")) else b"x")
    return tmp_path / "root"


def test_files_left_out_are_counted_by_ending(tmp_path):
    root = folder_of(tmp_path, ["a/1.png", "a/2.svg", "b/1.png", "b/2.SVG", "b/x/3.txt", "b/LICENSE", "a/.hidden"])
    with pytest.warns(DataWarning, match=r"root: left out 2 \.svg, 1 no ending, 1 \.txt: such files are not") as found:
        data = FolderData(root)
    assert len(found) == 1 and len(data) == 2


def test_folder_without_images_names_what_it_contains(tmp_path):
    root = folder_of(tmp_path, ["a/1.svg", "b/2.svg"])
    with pytest.raises(DataError, match=r"no images .* \(expected \*\.png, .*; found 2 \.svg\)"):
        FolderData(root)


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["cat/1.png", "dog/1.svg", "dog/2.svg", "emu/1.png"],
            r"dog is a class .* \(2 \.svg\); .*exclude=\[dog\]",
        ),
        (["cat/1.png", "dog/1.svg"], r"dog is a class without images that can be read"),
        (["cat/1.png", "dog/", "emu/1.png"], r"dog is a class without images that can be read \(no files\)"),
    ],
)
def test_class_without_readable_images_is_refused(tmp_path, names, message):
    root = folder_of(tmp_path, [name for name in names if not name.endswith("/")])
    (root / "dog").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message):
        FolderData(root)
    assert FolderData(root, exclude=["dog"]).class_names in (("cat", "emu"), ())


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize(
    ("kind", "fix"), [(".heic", r'pip install "ssl_lib\[heic\]"'), (".avif", "install a newer Pillow")]
)
def test_formats_of_missing_extras_are_named_with_the_fix(tmp_path, monkeypatch, kind, fix):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(formats.features, "check", lambda name: False)
    extensions.cache_clear()
    try:
        with pytest.raises(DataError, match=rf"found 1 \{kind}; .*{kind}.*{fix}"):
            FolderData(folder_of(tmp_path, [f"a/1{kind}"]))
    finally:
        monkeypatch.undo()
        extensions.cache_clear()
    assert hint({".svg"}) == ""


def test_images_with_the_name_of_another_are_reported(tmp_path):
    root = folder_of(tmp_path, ["0.jpg", "0.png", "1.jpg", "1.png", "2.jpg"])
    with pytest.warns(DataWarning, match=r"2 images have the name .* 0\.jpg and 0\.png; .*exclude=\['\*\.png'\]"):
        assert len(FolderData(root)) == 5
    assert len(FolderData(root, exclude=["*.png"])) == 3


@pytest.mark.parametrize(
    ("members", "field", "count", "message"),
    [
        (["0.jpg", "0.png", "1.jpg"], None, 3, r"1 images are in one sample .* 0\.jpg and 0\.png.*data\.field=jpg"),
        (["0.jpg", "0.json", "1.svg", "1.json"], None, 1, r"without a readable image \(1 \.svg, 1 \.json\)"),
        (["0.left.png", "0.right.png", "1.right.png"], "left.png", 1, r"\(1 \.right\.png\)"),
    ],
)
def test_shards_report_samples_with_no_image_or_several(tmp_path, members, field, count, message):
    write(tmp_path / "a.tar", [(name, encoded(".png")[0]) for name in members])
    with pytest.warns(DataWarning, match=message) as found:
        assert len(ShardData(str(tmp_path / "a.tar"), field=field, label="none")) == count
    assert len(found) == 1
