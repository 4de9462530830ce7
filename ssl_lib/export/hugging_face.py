"""A folder as the Hugging Face hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_lib.experiment.trained_backbone import HEADER, TrainedBackbone
from ssl_lib.export.card import model_card
from ssl_lib.export.peers import Peer, at_its_size, plain_state, timm_peer
from ssl_lib.export.snippets import by_timm, by_us
from ssl_lib.export.tensors import save_safetensors
from ssl_lib.utils.files import whole_file, write_json, write_text

__all__ = ["hub_usage", "write_folder"]


def write_folder(backbone: TrainedBackbone, folder: Path) -> None:
    """Writes model.safetensors, config.json, preprocessor_config.json and README.md, the model card.

    If timm has the network, keys and config are timm's, so that timm can read the folder. `TrainedBackbone.from_file`
    reads every one.

    Raises:
        ConfigError: The package safetensors is missing.
    """
    backbone, peer = at_its_size(backbone), _peer(backbone)
    state: dict[str, Tensor] = plain_state(backbone.net) if peer is None else dict(peer.state)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "model.safetensors") as partial:
        save_safetensors(state, backbone.metadata, partial)
    config = {**({"model_type": HEADER} if peer is None else _timm_config(backbone, peer)), HEADER: backbone.metadata}
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", _processor(backbone))
    library = HEADER if peer is None else "timm"
    write_text(folder / "README.md", model_card(backbone, hub_usage(backbone, Path(folder.name)), library))


def hub_usage(backbone: TrainedBackbone, folder: Path) -> str:
    """Python that reads the folder, from image files to features."""
    return (by_us if _peer(backbone) is None else by_timm)(backbone, folder)


def _peer(backbone: TrainedBackbone) -> Peer | None:
    """The network in timm, where it needs no more than arguments."""
    try:
        peer = timm_peer(backbone)
    except ValueError:
        return None
    return None if peer.before else peer


def _timm_config(backbone: TrainedBackbone, peer: Peer) -> dict[str, Any]:
    """As timm/models/_hub.py has it; without `first_conv`, so that no stem is adapted to other channels."""
    images = backbone.preprocessing
    return {
        "architecture": peer.architecture.partition(".")[0],
        "num_classes": 0,
        "num_features": backbone.out_dim,
        "model_args": dict(peer.options),  # num_classes is not among them: transformers would give it twice
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


def _processor(backbone: TrainedBackbone) -> dict[str, Any]:
    """As transformers' image processors have it; 3 is Pillow's number for bicubic."""
    images = backbone.preprocessing
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": images.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": images.resize},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": images.size, "width": images.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": images.mean,
        "image_std": images.std,
    }
