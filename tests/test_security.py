"""Files from strangers: nothing in them is executed, nothing is unpacked, and lies about sizes cost no memory."""

from __future__ import annotations

import ast
import contextlib
import io
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_lib
from ssl_lib import CheckpointError, ConfigError, DataError, load_method
from ssl_lib.cli.common import config_folder
from ssl_lib.cli.main import main
from ssl_lib.config.load import load_config, parse_config
from ssl_lib.data import FolderData, ShardData, arrays
from ssl_lib.experiment.build import build
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint

MIB = 2**20
SMALL = ["schedule.epochs=0.05", "schedule.warmup_epochs=0", "backbone.width=8", "evaluation.every_epochs=0"]


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "quickstart", *SMALL, f"run_dir={folder}"]) == 0
    return folder


@contextlib.contextmanager
def little_memory(limit=64 * MIB):
    """Fails where the process comes to need more memory inside than before."""
    if sys.platform != "linux":
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    yield
    assert _status("VmHWM") - before < limit


def _status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


# Pickles


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
@pytest.mark.parametrize("way", ["evaluate", "resume", "load_method", "weights", "replay"])
def test_a_malicious_checkpoint_is_never_executed(way, kind, tmp_path, capsys):
    trace, bad = tmp_path / "executed", tmp_path / "run" / "checkpoints" / "last.pt"
    bad.parent.mkdir(parents=True)
    content = {"format": 1, "step": 0, "method": Payload(trace), "config": Payload(trace)}
    if kind == "bare pickle":
        bad.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, bad, _use_new_zipfile_serialization=kind == "zip")
    if way == "load_method":
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            load_method(tmp_path / "run")
    else:
        (tmp_path / "run" / "nonfinite.json").write_text('{"step": 1}')
        (tmp_path / "run" / "config.yaml").write_text((config_folder() / "quickstart.yaml").read_text())
        arguments = {
            "evaluate": ["evaluate", str(bad)],
            "resume": ["train", str(tmp_path / "run"), "--resume", f"run_dir={tmp_path / 'run'}"],
            "weights": ["train", "quickstart", *SMALL, f"backbone.weights={bad}", f"run_dir={tmp_path / 'other'}"],
            "replay": ["replay", str(tmp_path / "run")],
        }[way]
        assert main(arguments) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("ssl-lib: error: ") and "last.pt" in error
    assert not trace.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(bad, weights_only=False)
    assert trace.exists(), "the payload is a real one"


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed npz", "labels"])
def test_arrays_of_objects_are_never_unpickled(kind, tmp_path):
    trace, path = tmp_path / "executed", tmp_path / ("set.npz" if kind.endswith("npz") else "set.npy")
    objects = np.array([Payload(trace)], dtype=object)
    if kind.endswith("npz"):
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=objects)
    else:
        np.save(path, objects)
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DataError, match="not a plain array that can be read safely"):
        arrays(images, labels=path) if kind == "labels" else arrays(path)
    assert not trace.exists()


# YAML


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os.system"]
)
def test_yaml_makes_plain_values_only(tag, tmp_path, run, capsys):
    trace = tmp_path / "executed"
    value = tag if "name" in tag else f"{tag} ['touch {trace}']"
    (tmp_path / "bad.yaml").write_text(f"data: {value}\n")
    assert main(["train", str(tmp_path / "bad.yaml")]) == 2
    assert "is not readable YAML" in capsys.readouterr().err
    assert main(["train", "quickstart", f"seed={value}"]) == 2
    assert "is not readable YAML" in capsys.readouterr().err

    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    del saved["format"]
    for text in (f"data: {value}\n", "- a list\n", "seed: [1\n", 7):
        save_checkpoint(tmp_path / "gift.pt", {**saved, "config": text})
        assert main(["evaluate", str(tmp_path / "gift.pt")]) == 2
        error = capsys.readouterr().err
        assert "the config inside the checkpoint" in error and error.count("ssl-lib: error") == 1
    assert not trace.exists()


def test_a_name_in_a_config_reaches_registered_parts_only():
    for key in ("method", "backbone", "data", "optimizer"):
        for name in ("os.system", "torch.nn.Linear", "__import__", "ssl_lib.cli.main.main", "timm/../x"):
            with pytest.raises(ConfigError):
                _resolve(key, name)


def _resolve(key, name):
    plain = {"data": "fashion_mnist_mini", "backbone": "resnet_tiny", "method": "simclr", "optimizer": "lars"}
    build(parse_config({**plain, "views": {"preset": "simclr", "size": 28}, key: {"name": name}}))


def test_imports_of_the_config_that_the_user_names_are_the_only_code_that_runs(tmp_path, run, capsys):
    (tmp_path / "own_code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    config = tmp_path / "own.yaml"
    config.write_text((config_folder() / "quickstart.yaml").read_text() + "imports: [own_code.py]\n")
    assert load_config(config).imports == (str(tmp_path / "own_code.py"),)
    assert not (tmp_path / "executed").exists(), "reading a config runs nothing"

    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    saved["config"] = saved["config"].replace("imports: []", f"imports: [{tmp_path / 'code.py'}]")
    del saved["format"]
    save_checkpoint(tmp_path / "gift.pt", saved)
    assert main(["evaluate", str(tmp_path / "gift.pt")]) == 2
    assert "names code to import" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="names code to import"):
        load_method(tmp_path / "gift.pt")
    assert main(["train", "quickstart", *SMALL, f"backbone.weights={tmp_path}/gift.pt", f"run_dir={tmp_path}/a"]) == 0
    assert not (tmp_path / "executed").exists()
    assert main(["train", str(config), *SMALL, f"run_dir={tmp_path}/b"]) == 0
    assert (tmp_path / "executed").exists()


# Arrays that lie


HUGE = [
    *("(1000000000000, 28, 28)", f"({2**62}, 4)", f"({2**63}, 1)", f"({2**64}, 28)", f"({2**40}, {2**40})"),
    *("(-1, 28, 28)", "((1,), 2)", "(1.5, 2)", "'a'", "(", "(" * 300, "-" * 4000 + "1", "__import__('os').abort()"),
]


def npy(shape, descr="'|u1'"):
    """A .npy file of 64 bytes with a header of one's own."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


@pytest.mark.parametrize("kind", ["npy", "stored", "deflated"])
@pytest.mark.parametrize("shape", HUGE, ids=lambda text: text[:20])
def test_a_header_that_lies_is_refused(shape, kind, tmp_path):
    path = tmp_path / ("set.npy" if kind == "npy" else "set.npz")
    if kind == "npy":
        path.write_bytes(npy(shape))
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("images.npy", npy(shape))
    with little_memory(), pytest.raises(DataError, match=r"set\.np[yz]"):
        arrays(path)


@pytest.mark.parametrize("descr", ["'|O'", "'|V99999999999'", "[('a', '|O')]", "'nonsense'", "('|u1', (10**15,))"])
def test_a_type_that_lies_is_refused(descr, tmp_path):
    (tmp_path / "set.npy").write_bytes(npy("(2, 3, 4)", descr))
    with little_memory(), pytest.raises(DataError, match=r"set\.npy"):
        arrays(tmp_path / "set.npy")


# Images that lie


def png(side):
    """A valid PNG file, up to its data: 1,000 bytes that claim side x side pixels."""

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
    """A TIFF file of one strip that claims side x side pixels."""
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
def test_an_image_bomb_is_refused(kind, place, tmp_path):
    name = f"bomb.{kind.split()[-1]}"
    if place == "folder":
        (tmp_path / name).write_bytes(BOMBS[kind])
        data = FolderData(tmp_path)
    else:
        write_tar(tmp_path / "set.tar", [(tarfile.TarInfo(name), BOMBS[kind])])
        data = ShardData(str(tmp_path / "set.tar"))
    with (
        little_memory(),
        pytest.raises(DataError, match=rf"{name} cannot be read as an image \(DecompressionBombError"),
    ):
        data.read(0)


@pytest.mark.parametrize("make", [png, tiff, bmp])
def test_an_image_that_claims_more_than_it_holds_is_refused(make, tmp_path):
    """Within the limit of pixels."""
    path = tmp_path / f"short.{make.__name__}"
    path.write_bytes(make(9_000))
    with little_memory(300 * MIB), pytest.raises(DataError, match=r"short\.\w+ cannot be read as an image"):
        FolderData(tmp_path).read(0)


# Archives


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def picture(value):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def test_nothing_of_an_archive_is_unpacked_and_no_link_is_followed(tmp_path, monkeypatch):
    secret, inside = tmp_path / "secret.png", tmp_path / "a" / "b"
    secret.write_bytes(picture(99))
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    write_tar(
        inside / "set.tar",
        [
            (member("../../escaped.png"), picture(1)),
            (member(f"{tmp_path}/absolute.png"), picture(2)),
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


@pytest.mark.parametrize("kind", ["size", "sparse"])
def test_an_archive_that_lies_about_a_size_is_refused(kind, tmp_path):
    info = tarfile.TarInfo("x.png")
    info.size = 10**13
    if kind == "size":
        content = info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    else:  # an old GNU sparse file: 512 bytes here, "truly" ten terabytes
        info.size, info.type = 512, tarfile.GNUTYPE_SPARSE
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[386:410] = b"%011o\0%011o\0" % (0, 512)
        header[483:495] = b"\x80" + (10**13).to_bytes(11, "big")
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header)
        content = bytes(header) + bytes(512) + bytes(1024)
    (tmp_path / "set.tar").write_bytes(content)
    with little_memory(), pytest.raises(DataError, match=r"set\.tar"):
        ShardData(str(tmp_path / "set.tar"))


def test_the_sources_call_nothing_that_executes_or_unpacks():
    names = {"eval", "exec", "compile", "__import__"}
    dotted = {"os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load"}
    for path in Path(ssl_lib.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in names | dotted, (path, call.lineno)
            if name.startswith("subprocess."):  # `ssl-lib train` by a sweep, and git for the commit; without a shell
                assert path.name in ("sweep.py", "environment.py"), (path, call.lineno)
                assert not any(word.arg == "shell" for word in call.keywords), (path, call.lineno)
            assert not name.endswith((".extractall", ".extract")), (path, call.lineno)
            if name == "yaml.load":
                assert ast.unparse(call.args[1]) == "_StrictLoader", (path, call.lineno)
