"""Loading backbone weights from a state dict file, a training run or torchvision."""

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
from ssl_lib.utils.files import check_regular
from ssl_lib.utils.optional import needs

__all__ = ["load_weights", "read_header"]

# Key prefixes added by DistributedDataParallel, torch.compile, Lightning, MoCo, SimSiam and DINO.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "base_encoder.")
# Prefixes of layers after the features, which a backbone does not have.
HEADS = ("fc.", "head.", "heads.", "classifier.", "projection_head.", "prototypes.")


def load_weights(module: nn.Module, source: str, architecture: str = "") -> None:
    """Loads pretrained weights into a backbone from a file, a run or torchvision, in place.

    A file contains a state dict, optionally under the key "state_dict" or "model", or is the checkpoint of a run, whose
    encoder is loaded. A folder must be a run; its checkpoints/last.pt is loaded.
    If keys have the prefix of a wrapper ("module.", "backbone.", "encoder.", ...), only keys with that prefix are used.
    Classifier layers ("fc.", "head.", ...) that the module lacks are ignored. All other keys must match the module and
    have the right shapes.

    Weights for three channels can be loaded into a module with one channel: the kernel of the stem is summed over the
    channels, which gives the features of the gray image repeated three times. Other channel mismatches are errors.

    Args:
        module: Backbone whose weights are replaced.
        source: Path to a .pt, .pth or .safetensors file or to a run folder, or the name of torchvision weights such as
            "DEFAULT" or "IMAGENET1K_V2".
        architecture: Name of the model in torchvision, e.g. "resnet50"; empty if it is not a torchvision model.

    Raises:
        ConfigError: The source is missing, damaged or cannot be downloaded, or does not match the module.
    """
    if Path(source).is_dir():
        source = _last_checkpoint(source)
    state = _read_file(source) if Path(source).is_file() else _download(source, architecture)
    expected = module.state_dict()
    state = _own_keys(state, expected)
    _sum_stem(state, expected)
    _merge_register_positions(state, expected)
    problems = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_shorten(keys)}" for kind, keys in problems.items() if keys)
        raise ConfigError(
            f"the weights {source!r} do not match this backbone; {listed}. Use the same backbone, stem, number of "
            "channels and sizes that the weights were trained with"
        )
    module.load_state_dict(state)


def _last_checkpoint(run: str) -> str:
    path = Path(run) / CHECKPOINTS / LAST
    if not path.is_file():
        raise ConfigError(
            f"the weights {run!r} are a folder without checkpoints/last.pt: give the folder of a run, or a file"
        )
    return str(path)


def read_header(path: Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file.

    Raises:
        ConfigError: The file is missing or damaged, or the package safetensors is not installed.
    """
    with _open_safetensors(path) as file:
        return dict(file.metadata() or {})


def _open_safetensors(path: Path) -> Any:
    with needs("safetensors", f"the file {path}"):
        safetensors: Any = importlib.import_module("safetensors")
    try:
        check_regular(path)
        return safetensors.safe_open(path, "pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read {path} as a safetensors file: {error}") from error


def _read_file(path: str) -> dict[str, Tensor]:
    if path.endswith(".safetensors"):
        with _open_safetensors(Path(path)) as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the error type of torch.load depends on where the file is damaged
        raise ConfigError(
            f"cannot read the weights {path!r} as a file of plain tensors: it is damaged or not written by torch.save"
        ) from error
    if isinstance(content, Mapping) and isinstance(encoder := content.get("encoder"), str):  # a run's checkpoint
        prefix = f"{encoder}."
        content = {key.removeprefix(prefix): v for key, v in content["method"].items() if key.startswith(prefix)}
    for level in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(level), Mapping):
            content = content[level]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        content_type = f"keys {_shorten(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ConfigError(
            f"the file {path!r} contains {content_type}, not a state dict; "
            'save `module.state_dict()` or {"state_dict": ...}'
        )
    return dict(content)


def _download(name: str, architecture: str) -> dict[str, Tensor]:
    known: Any = get_model_weights(architecture).__members__ if architecture else {}
    if name not in known:
        raise ConfigError(
            f"the weights {name!r} are neither a file nor the name of torchvision weights.{did_you_mean(name, known)}"
        )
    try:
        state = known[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot download the weights {name!r} of {architecture} from {known[name].url}: {error}. "
            "Download the file manually and give its path"
        ) from error
    # The keys in torchvision's DenseNet files contain "norm.1" instead of "norm1".
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): value for key, value in state.items()}


def _own_keys(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strips wrapper prefixes, outermost first, and drops heads that the module lacks."""
    while prefix := next((p for p in PREFIXES if _any_startswith(state, p) and not _any_startswith(expected, p)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in state.items() if key in expected or not key.startswith(HEADS)}


def _any_startswith(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _sum_stem(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Sums a three-channel stem over its channels if the module's stem has one channel, in place."""
    stem = next((key for key, value in expected.items() if value.dim() == 4), None)
    if stem is not None and stem in state:
        shape, wanted = state[stem].shape, expected[stem].shape
        if shape[1:2] == (3,) and wanted[1] == 1 and shape[2:] == wanted[2:]:
            state[stem] = state[stem].sum(1, keepdim=True)


def _merge_register_positions(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Merges timm's position embeddings of the registers into the registers, in place."""
    registers, positions = state.get("reg_token"), state.get("pos_embed")
    if registers is None or positions is None or positions.ndim != 3 or "reg_token" not in expected:
        return
    rest = expected["pos_embed"].shape[1] - 1
    if registers.shape == expected["reg_token"].shape and positions.shape[1] == 1 + registers.shape[1] + rest:
        cls, register_positions, patches = positions.split((1, registers.shape[1], rest), dim=1)
        state["reg_token"], state["pos_embed"] = registers + register_positions, torch.cat((cls, patches), dim=1)


def _shorten(keys: Iterable[str]) -> str:
    names = list(map(str, keys))
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest
