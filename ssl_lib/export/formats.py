"""The formats, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.export.card import model_card
from ssl_lib.export.graphs import write_onnx, write_program
from ssl_lib.export.hugging_face import hub_usage, write_folder
from ssl_lib.export.peers import Peer, timm_peer, torchvision_peer
from ssl_lib.export.snippets import by_numpy, by_torchvision, by_us, quoted
from ssl_lib.export.tensors import state_dict_writer, write_safetensors
from ssl_lib.utils.files import whole_file, write_json, write_text

__all__ = ["FORMATS", "Format", "check_format", "export", "fitting_format"]


@dataclass(frozen=True)
class Format:
    """A way to write a backbone down.

    Attributes:
        file: Name of the file, or, where `is_folder`, of the folder.
        write: Writes it.
        usage: Python that reads it and goes from image files to features; runs as it stands.
        peer: The other library's network whose keys it takes; raises ValueError where there is none.
        is_folder: Whether it is a folder, with a model card of its own.
    """

    file: str
    write: Callable[[TrainedBackbone, Path], None]
    usage: Callable[[TrainedBackbone, Path], str]
    peer: Callable[[TrainedBackbone], Peer] | None = None
    is_folder: bool = False


def _peer_format(file: str, peer_of: Callable[[TrainedBackbone], Peer]) -> Format:
    def usage(backbone: TrainedBackbone, path: Path) -> str:
        peer = peer_of(backbone)
        return by_torchvision(backbone, [f"import {peer.library}"], peer.load(quoted(path)), "net.eval()(images)")

    return Format(file, state_dict_writer(peer_of), usage, peer_of)


def _onnx_usage(backbone: TrainedBackbone, path: Path) -> str:
    load = f"session = onnxruntime.InferenceSession({quoted(path)})"
    return by_numpy(backbone, ["import onnxruntime"], load, 'session.run(None, {"images": images})[0]')


def _program_usage(backbone: TrainedBackbone, path: Path) -> str:
    return by_torchvision(backbone, [], f"net = torch.export.load({quoted(path)}).module()", "net(images)")


FORMATS = {
    "torchvision": _peer_format("backbone_torchvision.pth", torchvision_peer),
    "timm": _peer_format("backbone_timm.pth", timm_peer),
    "safetensors": Format("backbone.safetensors", write_safetensors, by_us),
    "onnx": Format("backbone.onnx", write_onnx, _onnx_usage),
    "torch_export": Format("backbone.pt2", write_program, _program_usage),
    "huggingface": Format("huggingface", write_folder, hub_usage, is_folder=True),
}


def export(backbone: TrainedBackbone, to: str, path: str | Path) -> str:
    """Writes a backbone for others to use, with its metadata (`PATH.json`) and a model card (`PATH.md`) beside it.

    Args:
        backbone: Such as `TrainedBackbone.from_run("runs/quickstart")`; on the CPU.
        to: A name in `FORMATS`.
        path: The file, or for "huggingface" the folder; what is there is replaced.

    Returns:
        Python that reads what was written and goes from image files to features; it runs as it stands.

    Raises:
        ConfigError: The format is unknown, does not fit the backbone or needs a package; or the path is no such place.
    """
    fmt, path = fitting_format(backbone, to), Path(path)
    if path.exists() and path.is_dir() != fmt.is_folder:
        wanted, found = ("folder", "file") if fmt.is_folder else ("file", "folder")
        raise ConfigError(f"{path} is a {found}: {to} writes a {wanted}, such as {path.parent / fmt.file}")
    usage = fmt.usage(backbone, path)
    if fmt.is_folder:
        fmt.write(backbone, path)
        return usage
    with whole_file(path) as partial:
        fmt.write(backbone, partial)
    write_json(path.with_name(f"{path.name}.json"), backbone.metadata)
    write_text(path.with_name(f"{path.name}.md"), model_card(backbone, fmt.usage(backbone, Path(path.name))))
    return usage


def check_format(to: str) -> Format:
    """The format of a name.

    Raises:
        ConfigError: It is unknown.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown export format {to!r}.{did_you_mean(to, FORMATS)}")
    return FORMATS[to]


def fitting_format(backbone: TrainedBackbone, to: str) -> Format:
    """The format of a name, for this backbone.

    Raises:
        ConfigError: It is unknown, or does not fit; the message says which do.
    """
    fmt = check_format(to)
    if reason := _misfit(fmt, backbone):
        fitting = [name for name, other in FORMATS.items() if not _misfit(other, backbone)]
        raise ConfigError(f"{reason}; formats that fit this backbone: {', '.join(fitting)}")
    return fmt


def _misfit(fmt: Format, backbone: TrainedBackbone) -> str:
    """Why a format does not fit; empty where it does."""
    try:
        if fmt.peer is not None:
            fmt.peer(backbone)
    except ValueError as error:
        return str(error)
    return ""
