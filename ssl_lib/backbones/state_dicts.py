"""Fits state dicts of other libraries to a backbone: wrappers, renamed keys, heads, stems and position embeddings.

`WRAPPERS`, `RENAMES` and `LEFT_OUT` are the table of rules. A state dict fits if they make its keys and shapes equal to
the module's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ssl_lib.backbones.positions import fit_positions

__all__ = ["FittedState", "fits", "flatten"]

WRAPPERS = (
    # levels of a checkpoint; averaged weights come first
    *("classy_state_dict", "base_model", "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model"),
    # DistributedDataParallel, torch.compile, Lightning, VISSL
    *("module", "_orig_mod", "network", "net", "trunk", "_feature_blocks"),
    # parts of a method: the part that its authors evaluate comes first
    *("teacher", "teacher_backbone", "student", "student_backbone"),  # DINO, iBOT, DINOv2
    *("online_encoder", "online_network", "target_encoder", "encoder_q", "base_encoder"),  # BYOL, I-JEPA, MoCo
    *("backbone", "encoder", "vit"),
)
"""Names that contain a whole network, as a level of nested mappings or as a prefix of keys, in order of preference."""

RENAMES = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's DenseNet files: "norm.1" is "norm1"
    (r"\.shortcut\.", ".downsample."),  # lightly's ResNets
    (r"^register_tokens$", "reg_token"),  # DINOv2
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2, blocks in chunks
    (r"^class_token$", "cls_token"),  # from here on torchvision's vision transformers
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
)
"""Patterns of keys and their replacements, applied in this order to keys that the module lacks."""

LEFT_OUT = (
    *("fc.", "head.", "heads.", "classifier.", "linear.", "dino_head.", "ibot_head."),
    *("projection_head.", "projector.", "predictor.", "prediction_head.", "prototypes."),
    *("decoder.", "decoder_", "mask_token", "masked_embed"),  # MAE, iBOT, DINOv2
)
"""Beginnings of the keys behind the features or for pretraining alone, which are ignored if the module lacks them."""

_COUNTER = "num_batches_tracked"  # of BatchNorm; older files lack it, and it has no effect on the features
_DEPTH = 8  # wrappers around wrappers


@dataclass(frozen=True)
class FittedState:
    """A network of a checkpoint, adapted to a module.

    Attributes:
        origin: Where it is in the checkpoint, such as "teacher.backbone"; empty at the top.
        state: The tensors by the module's keys.
        problems: Keys that are missing, unexpected or of the wrong shape, by kind; empty if the state fits.
        changes: What was adapted, for a report.
    """

    origin: str
    state: dict[str, Tensor]
    problems: dict[str, list[str]]
    changes: list[str] = field(default_factory=list)


def flatten(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Returns the tensors of nested mappings by their dotted keys; only levels named in `WRAPPERS` are opened."""
    tensors: dict[str, Tensor] = {}
    opened: set[int] = set()  # a file may contain a level twice, or in itself

    def add(level: Mapping[Any, Any], prefix: str) -> None:
        opened.add(id(level))
        for key, value in level.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{key}"] = value
            elif isinstance(value, Mapping) and key in WRAPPERS and id(value) not in opened:
                add(value, f"{prefix}{key}.")

    add(content, "")
    return tensors


def fits(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[FittedState]:
    """Returns the networks in a checkpoint that fit a module, in order of preference.

    Args:
        tensors: Tensors by dotted key, see `flatten`.
        expected: The module's state dict.

    Returns:
        All networks without problems. If there are none, the network that has the most keys in common with the module.
    """
    networks = list(_networks(dict(tensors)))
    found = [_adapt(".".join(path), state, expected) for path, state in networks]
    if fitting := [one for one in found if not one.problems]:
        return fitting
    common = [
        (len(expected.keys() & one.state), len(state), len(path))
        for one, (path, state) in zip(found, networks, strict=True)
    ]
    return [found[common.index(max(common))]]


def _networks(
    tensors: dict[str, Tensor], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yields the tensors themselves, then those within each wrapper, in the order of `WRAPPERS`."""
    yield path, tensors
    for wrapper in WRAPPERS if len(path) < _DEPTH else ():
        prefix = f"{wrapper}."
        inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if inner:
            yield from _networks(inner, (*path, wrapper))


def _adapt(origin: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> FittedState:
    numbered = _numbered(tensors, expected)
    names = {key: _renamed(numbered.get(key, key), expected) for key in tensors}
    names = {key: name for key, name in names.items() if name in expected or not name.startswith(LEFT_OUT)}
    counts = Counter(names.values())
    state = {name: tensors[key] for key, name in names.items()}
    state |= {key: value for key, value in expected.items() if key.endswith(_COUNTER) and key not in state}
    changes = [*fit_positions(state, expected), *_fit_stem(state, expected)]
    problems = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [name for name in state if name not in expected],
        "several keys for one": [f"{key} for {name}" for key, name in names.items() if counts[name] > 1],
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    return FittedState(origin, state, {kind: keys for kind, keys in problems.items() if keys}, changes)


def _numbered(tensors: Iterable[str], expected: Iterable[str]) -> dict[str, str]:
    """Names the keys of an `nn.Sequential` of a network's children, as lightly builds it, in the order of the children.

    Children without tensors, such as ReLU, have a number but no key.
    """
    keys, known = list(tensors), set(expected)
    if not all(re.match(r"\d+\.", key) for key in keys) or known.intersection(keys):
        return {}
    numbers = sorted({int(key.partition(".")[0]) for key in keys})
    children = list(dict.fromkeys(key.partition(".")[0] for key in expected))
    names = dict(zip(map(str, numbers), children, strict=False))
    parts = [(key, *key.partition(".")) for key in keys]
    return {key: f"{names[number]}.{rest}" for key, number, _, rest in parts if number in names}


def _renamed(key: str, expected: Mapping[str, Tensor]) -> str:
    name = key
    for pattern, replacement in RENAMES:
        if name in expected:
            break
        name = re.sub(pattern, replacement, name)
    return name if name in expected else key


def _fit_stem(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Fits a stem for three channels to another number of channels, in place; returns what was changed.

    Every channel gets the kernel's sum over the three channels, divided by the number of channels: equal channels give
    the features of the gray image repeated three times.
    """
    stem = next((key for key, value in expected.items() if value.dim() == 4), None)
    if stem is None or stem not in state or state[stem].dim() != 4:
        return []
    shape, wanted = state[stem].shape, expected[stem].shape
    if shape[1] != 3 or wanted[1] == 3 or (shape[0], *shape[2:]) != (wanted[0], *wanted[2:]):
        return []
    state[stem] = (state[stem].float().sum(1, keepdim=True) / wanted[1]).expand(wanted).clone()
    return [f"{stem}, made for 3 channels, is averaged over them for {wanted[1]} (equal channels keep their features)"]
