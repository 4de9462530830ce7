"""Weights to start from: a local state dict, or torchvision's by name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.runs.files import CHECKPOINTS, LAST
from ssl_lib.utils.optional import needs

__all__ = ["load_weights", "read_header"]

# What DistributedDataParallel, torch.compile, Lightning, MoCo, SimSiam and DINO write before a backbone's own keys.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "base_encoder.")
# Layers behind the features, which a backbone does not have.
HEADS = ("fc.", "head.", "heads.", "classifier.", "projection_head.", "prototypes.")


def load_weights(module: nn.Module, source: str, architecture: str = "") -> None:
    """Loads a backbone's weights from a file or from torchvision, in place.

    A file is a state dict, bare or below "state_dict" or "model", or a run's checkpoint, of which the encoder is taken;
    a folder is a run's, and stands for its checkpoints/last.pt.
    Where its keys carry a wrapper's prefix ("module.", "backbone.", "encoder.", ...), only the keys with that prefix
    count. Classifier layers ("fc.", "head.", ...) that the module lacks are left out; every other key must be there, in
    the right shape.

    A stem of three channels fits a module of one channel: its kernel is summed over the channels, which gives the
    features of the gray image repeated three times. Other numbers of channels are an error.

    Args:
        module: The backbone to fill.
        source: Path of a .pt, .pth or .safetensors file or of a run's folder, or the name of torchvision weights such
            as "DEFAULT" or "IMAGENET1K_V2".
        architecture: torchvision's name of the network, e.g. "resnet50"; empty where torchvision has none.

    Raises:
        ConfigError: The source is missing, damaged or cannot be downloaded, or does not fit the module.
    """
    if Path(source).is_dir():
        source = _last_checkpoint(source)
    state = _read_file(source) if Path(source).is_file() else _download(source, architecture)
    expected = module.state_dict()
    state = _own_keys(state, expected)
    _sum_stem(state, expected)
    _free_registers(state, expected)
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        f"{kind}: {_shorten(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if keys
    ]
    if problems:
        raise ConfigError(
            f"the weights {source!r} do not fit this backbone; {'; '.join(problems)}. Choose the backbone, its stem, "
            "channels and sizes that the weights were trained with"
        )
    module.load_state_dict(state)


def _last_checkpoint(run: str) -> str:
    path = Path(run) / CHECKPOINTS / LAST
    if not path.is_file():
        raise ConfigError(
            f"the weights {run!r} are a folder without checkpoints/last.pt: give a run's folder, or a file"
        )
    return str(path)


def read_header(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        ConfigError: It is missing or damaged, or the package safetensors is.
    """
    with _open_safetensors(path) as file:
        return dict(file.metadata() or {})


def _open_safetensors(path: Path) -> Any:
    with needs("safetensors", f"the file {path}"):
        safetensors: Any = importlib.import_module("safetensors")
    try:
        return safetensors.safe_open(path, "pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read {path} as a safetensors file: {error}") from error


def _read_file(path: str) -> dict[str, Tensor]:
    if path.endswith(".safetensors"):
        with _open_safetensors(Path(path)) as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch.load raises on a damaged file depends on where the damage is
        raise ConfigError(
            f"cannot read the weights {path!r} as a file of plain tensors: it is damaged, or not what torch.save writes"
        ) from error
    if isinstance(content, Mapping) and isinstance(encoder := content.get("encoder"), str):  # a run's checkpoint
        prefix = f"{encoder}."
        content = {key.removeprefix(prefix): v for key, v in content["method"].items() if key.startswith(prefix)}
    for level in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(level), Mapping):
            content = content[level]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        found = f"keys {_shorten(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ConfigError(
            f'the file {path!r} holds {found}, not a state dict; save `module.state_dict()` or {{"state_dict": ...}}'
        )
    return dict(content)


def _download(name: str, architecture: str) -> dict[str, Tensor]:
    known: Any = get_model_weights(architecture).__members__ if architecture else {}
    if name not in known:
        raise ConfigError(
            f"weights {name!r} are neither a file nor a name of torchvision's.{did_you_mean(name, known)}"
        )
    try:
        state = known[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot download the weights {name!r} of {architecture} from {known[name].url}: {error}. "
            "Fetch the file by other means and give its path"
        ) from error
    # torchvision's DenseNet files spell "norm.1" where its modules spell "norm1".
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): value for key, value in state.items()}


def _own_keys(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strips wrappers' prefixes, outermost first, and leaves out the heads that the module lacks."""
    while prefix := next((p for p in PREFIXES if _begins(state, p) and not _begins(expected, p)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in state.items() if key in expected or not key.startswith(HEADS)}


def _begins(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _sum_stem(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Turns a three-channel stem into the one-channel stem that the module has, if that is the difference."""
    stem = next((key for key, value in expected.items() if value.dim() == 4), None)
    if stem is not None and stem in state:
        shape, wanted = state[stem].shape, expected[stem].shape
        if shape[1:2] == (3,) and wanted[1] == 1 and shape[2:] == wanted[2:]:
            state[stem] = state[stem].sum(1, keepdim=True)


def _free_registers(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Adds the positions that timm gives to registers, behind that of CLS, to the registers themselves."""
    registers, positions = state.get("reg_token"), state.get("pos_embed")
    if registers is None or positions is None or positions.ndim != 3 or "reg_token" not in expected:
        return
    rest = expected["pos_embed"].shape[1] - 1
    if registers.shape == expected["reg_token"].shape and positions.shape[1] == 1 + registers.shape[1] + rest:
        cls, own, patches = positions.split((1, registers.shape[1], rest), dim=1)
        state["reg_token"], state["pos_embed"] = registers + own, torch.cat((cls, patches), dim=1)


def _shorten(keys: Iterable[str]) -> str:
    names = list(map(str, keys))
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest
