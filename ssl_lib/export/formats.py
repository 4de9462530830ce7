"""The export formats by name, and `export`, which writes a backbone in one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.export.card import model_card
from ssl_lib.export.graphs import write_onnx, write_program
from ssl_lib.export.hugging_face import hub_usage, ssl_lib_usage, write_folder, write_safetensors
from ssl_lib.export.peers import Peer, timm_peer, torchvision_peer
from ssl_lib.export.snippets import quoted, render
from ssl_lib.utils.files import whole_file, write_json, write_text

__all__ = ["FORMATS", "Format", "check_format", "export"]


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        file: Default name of the file, or of the folder if `is_folder`.
        write: Writes the backbone to a path.
        usage: Returns runnable Python code that loads the path and computes features from image files.
        peer: Returns the other library's equivalent network, whose keys the file uses. Raises ValueError if there is
            none. None if the format does not use another library's keys.
        is_folder: Whether the format writes a folder, which includes the model card.
    """

    file: str
    write: Callable[[TrainedBackbone, Path], None]
    usage: Callable[[TrainedBackbone, Path], str]
    peer: Callable[[TrainedBackbone], Peer] | None = None
    is_folder: bool = False


def _peer_format(file: str, peer_of: Callable[[TrainedBackbone], Peer]) -> Format:
    def write(backbone: TrainedBackbone, path: Path) -> None:
        torch.save(dict(peer_of(backbone).state), str(path))

    def usage(backbone: TrainedBackbone, path: Path) -> str:
        peer = peer_of(backbone)
        load = peer.load(quoted(path))
        return render("torchvision.py", backbone, library=peer.library, load=load, call="net.eval()(images)")

    return Format(file, write, usage, peer_of)


def _onnx_usage(backbone: TrainedBackbone, path: Path) -> str:
    return render("onnx.py", backbone, file=quoted(path))


def _program_usage(backbone: TrainedBackbone, path: Path) -> str:
    load = f"net = torch.export.load({quoted(path)}).module()"
    return render("torchvision.py", backbone, library="", load=load, call="net(images)")


FORMATS = {
    "torchvision": _peer_format("backbone_torchvision.pth", torchvision_peer),
    "timm": _peer_format("backbone_timm.pth", timm_peer),
    "safetensors": Format("backbone.safetensors", write_safetensors, ssl_lib_usage),
    "onnx": Format("backbone.onnx", write_onnx, _onnx_usage),
    "torch_export": Format("backbone.pt2", write_program, _program_usage),
    "huggingface": Format("huggingface", write_folder, hub_usage, is_folder=True),
}


def export(backbone: TrainedBackbone, to: str, path: str | Path) -> str:
    """Exports a backbone for use without ssl_lib.

    Next to a file, the metadata are written to `PATH.json` and the model card to `PATH.md`.

    Args:
        backbone: The backbone on the CPU, for example `TrainedBackbone.from_run("runs/quickstart")`.
        to: A name in `FORMATS`.
        path: The file, or the folder for "huggingface". Existing files are replaced.

    Returns:
        Runnable Python code that loads the export and computes features from image files.

    Raises:
        ConfigError: The format is unknown, does not support the backbone or needs a missing package; or the path is a
            folder where the format writes a file, or the reverse.
    """
    fmt, path = check_format(to), Path(path)
    if reason := _mismatch(fmt, backbone):
        fitting = [name for name, other in FORMATS.items() if not _mismatch(other, backbone)]
        raise ConfigError(f"{reason}; formats that support this backbone: {', '.join(fitting)}")
    if path.exists() and path.is_dir() != fmt.is_folder:
        wanted, actual = ("folder", "file") if fmt.is_folder else ("file", "folder")
        raise ConfigError(f"{path} is a {actual}: {to} writes a {wanted}, such as {path.parent / fmt.file}")
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
    """Returns the format with a name.

    Raises:
        ConfigError: The format is unknown.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown export format {to!r}.{did_you_mean(to, FORMATS)}")
    return FORMATS[to]


def _mismatch(fmt: Format, backbone: TrainedBackbone) -> str:
    """Returns why a format does not support the backbone, or an empty string if it does."""
    try:
        if fmt.peer is not None:
            fmt.peer(backbone)
    except ValueError as error:
        return str(error)
    return ""
