"""Loading backbone weights from a state dict file, a training run or torchvision."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from ssl_lib.backbones.state_dicts import fits, flatten
from ssl_lib.distributed import rank
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.runs.files import CHECKPOINTS, LAST
from ssl_lib.utils.files import check_regular
from ssl_lib.utils.optional import needs

__all__ = ["load_weights", "read_header"]


def load_weights(module: nn.Module, source: str, architecture: str = "") -> None:
    """Loads pretrained weights into a backbone from a file, a run or torchvision, in place.

    A folder must be a run; its checkpoints/last.pt is loaded. Of a run's checkpoint, the encoder is loaded. A file of
    another library is fitted by the rules in `ssl_lib/backbones/state_dicts.py`:

    - the network may be in levels such as "state_dict", "model" and "teacher", and its keys may have the prefixes of
      wrappers and methods, such as "module.", "_orig_mod.", "backbone." and "online_encoder.net."; if several networks
      fit, the averaged one is loaded, else the first in the order of `WRAPPERS`,
    - an `nn.Sequential` of a network's children (lightly), DINOv2's registers and torchvision's vision transformers are
      renamed,
    - heads, projectors and MAE's decoder are left out, and BatchNorm's `num_batches_tracked` may be missing,
    - position embeddings of another square grid are interpolated, as `VisionTransformer` does for other image sizes,
    - a stem for three channels is averaged over them for another number of channels. Equal channels then give the
      features of the gray image repeated three times.

    All other keys must equal the module's, with the right shapes. The choice between networks, interpolated positions
    and averaged stems are reported by a warning.

    Args:
        module: Backbone whose weights are replaced.
        source: Path to a .pt, .pth or .safetensors file or to a run folder, or the name of torchvision weights such as
            "DEFAULT" or "IMAGENET1K_V2".
        architecture: Name of the model in torchvision, e.g. "resnet50"; empty if it is not a torchvision model.

    Raises:
        ConfigError: The source is missing, damaged or cannot be downloaded, or does not match the module. The module is
            unchanged.
    """
    if Path(source).is_dir():
        source = _last_checkpoint(source)
    tensors = _read_file(source) if Path(source).is_file() else _download(source, architecture)
    best, *others = fits(tensors, module.state_dict())
    if best.problems:
        listed = "; ".join(f"{kind}: {_shorten(keys)}" for kind, keys in best.problems.items())
        place = f" in {best.origin!r}" if best.origin else ""
        raise ConfigError(
            f"the weights {source!r}{place} do not match this backbone; {listed}. Use the backbone, stem and sizes "
            "that the weights were trained with"
        )
    module.load_state_dict(best.state)
    changes = list(best.changes)
    if others:
        names = [repr(one.origin or "the top level") for one in (best, *others)]
        changes.insert(0, f"{names[0]} is loaded, not {', '.join(names[1:])}")
    if changes and rank() == 0:
        warnings.warn(f"the weights {source!r}: {'; '.join(changes)}", stacklevel=2)


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
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = "it is damaged or not written by torch.save"
        if refused:
            reason = (
                f"it holds an object of {refused[1]}, and loading objects could run code. Load it where you trust it, "
                "and save its state dict alone: torch.save(content['model'], 'weights.pt')"
            )
        raise ConfigError(f"cannot read the weights {path!r} as a file of plain tensors: {reason}") from error
    if isinstance(content, Mapping) and isinstance(encoder := content.get("encoder"), str):  # a run's checkpoint
        prefix = f"{encoder}."
        content = {key.removeprefix(prefix): v for key, v in content["method"].items() if key.startswith(prefix)}
    tensors = flatten(content) if isinstance(content, Mapping) else {}
    if not tensors:
        content_type = f"keys {_shorten(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ConfigError(
            f"the file {path!r} contains {content_type}, not a state dict; "
            'save `module.state_dict()` or {"state_dict": ...}'
        )
    return tensors


def _download(name: str, architecture: str) -> dict[str, Tensor]:
    known: Any = get_model_weights(architecture).__members__ if architecture else {}
    if name not in known:
        raise ConfigError(
            f"the weights {name!r} are neither a file nor the name of torchvision weights.{did_you_mean(name, known)}"
        )
    try:
        state: dict[str, Tensor] = known[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot download the weights {name!r} of {architecture} from {known[name].url}: {error}. "
            "Download the file manually and give its path"
        ) from error
    return state


def _shorten(keys: Iterable[str]) -> str:
    names = list(map(str, keys))
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest
