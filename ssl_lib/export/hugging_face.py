"""Exports a backbone as a safetensors file, or as a Hugging Face hub folder for timm, transformers and ssl_lib."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_lib.experiment.trained_backbone import HEADER, TrainedBackbone
from ssl_lib.export.card import model_card
from ssl_lib.export.peers import Peer, at_image_size, cpu_state_dict, timm_peer
from ssl_lib.export.snippets import quoted, render
from ssl_lib.utils.files import whole_file, write_json, write_text
from ssl_lib.utils.optional import needs

__all__ = ["hub_usage", "ssl_lib_usage", "write_folder", "write_safetensors"]


def write_safetensors(backbone: TrainedBackbone, path: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes the weights, by default under the backbone's own keys, with the metadata as JSON in the header.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    with needs("safetensors", "this format"):
        safetensors: Any = importlib.import_module("safetensors.torch")
    tensors = cpu_state_dict(backbone.net) if state is None else dict(state)
    content = safetensors.save(tensors, {"format": "pt", HEADER: json.dumps(backbone.metadata)})
    path.write_bytes(content)  # save_file would create a file that only its owner can read


def write_folder(backbone: TrainedBackbone, folder: Path) -> None:
    """Writes model.safetensors, config.json, preprocessor_config.json and the model card, README.md.

    If timm has the network, the keys and the config are timm's, so that timm can load the folder.
    `TrainedBackbone.from_file` loads the folder in any case. There is no preprocessor_config.json for images that
    transformers cannot read: with other bands, ranges or depths than those of 8-bit gray or RGB images.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    backbone, peer = at_image_size(backbone), _peer(backbone)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "model.safetensors") as partial:
        write_safetensors(backbone, partial, peer.state if peer else None)
    config = {**({"model_type": HEADER} if peer is None else _timm_config(backbone, peer)), HEADER: backbone.metadata}
    write_json(folder / "config.json", config)
    if backbone.preprocessing.reads_pictures:
        write_json(folder / "preprocessor_config.json", _processor_config(backbone))
    library = HEADER if peer is None else "timm"
    write_text(folder / "README.md", model_card(backbone, hub_usage(backbone, Path(folder.name)), library))


def hub_usage(backbone: TrainedBackbone, folder: Path) -> str:
    """Returns Python code that loads the folder and computes features from image files."""
    if _peer(backbone) is None:
        return ssl_lib_usage(backbone, folder)
    return render("timm_folder.py", backbone, file=quoted(f"local-dir:{folder}"))


def ssl_lib_usage(backbone: TrainedBackbone, path: Path) -> str:
    """Returns Python code that loads a file or folder with `TrainedBackbone.from_file` and computes features."""
    return render("ssl_lib.py", backbone, file=quoted(path))


def _peer(backbone: TrainedBackbone) -> Peer | None:
    """Returns timm's equivalent network if `timm.create_model` can build it from arguments alone."""
    try:
        peer = timm_peer(backbone)
    except ValueError:
        return None
    return None if peer.before else peer


def _timm_config(backbone: TrainedBackbone, peer: Peer) -> dict[str, Any]:
    """Returns config.json in the layout of timm/models/_hub.py.

    `first_conv` is left out so that timm does not adapt the stem to another number of channels.
    """
    images = backbone.preprocessing
    return {
        "architecture": peer.architecture.partition(".")[0],
        "num_classes": 0,
        "num_features": backbone.out_dim,
        "model_args": dict(peer.options),  # without num_classes, which transformers would pass a second time
        "pretrained_cfg": {
            "input_size": [images.channels, images.size, images.size],
            "fixed_input_size": "img_size" in peer.options,
            "interpolation": "bicubic",
            "crop_pct": images.size / images.resize,
            "crop_mode": "center",
            "mean": images.mean,
            "std": images.std,
            "num_classes": 0,
        },
    }


def _processor_config(backbone: TrainedBackbone) -> dict[str, Any]:
    """Returns preprocessor_config.json for transformers' image processors."""
    images = backbone.preprocessing
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": images.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": images.resize},
        "resample": 3,  # bicubic in Pillow
        "do_center_crop": True,
        "crop_size": {"height": images.size, "width": images.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": images.mean,
        "image_std": images.std,
    }
