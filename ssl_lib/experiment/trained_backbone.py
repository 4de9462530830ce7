"""A trained backbone with all that is needed to use it: how images are made ready, and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor, nn

from ssl_lib.backbones.weights import load_weights, read_header
from ssl_lib.config.convert import arguments_of, check_arguments
from ssl_lib.config.resolve import NO_WEIGHTS, call
from ssl_lib.config.run_config import RunConfig
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.errors import ConfigError
from ssl_lib.evaluation.features import device_of
from ssl_lib.experiment.build import build_views
from ssl_lib.experiment.load import load_saved, saved_preprocessing, trained_method, trained_preprocessing
from ssl_lib.methods import Method
from ssl_lib.registry import BACKBONES
from ssl_lib.runs.files import EVALUATION_FILE, evaluation_file, run_folder
from ssl_lib.runs.results import read_results
from ssl_lib.training.checkpoint_folder import find_checkpoint
from ssl_lib.version import __version__

__all__ = ["HEADER", "Part", "TrainedBackbone"]

Part = Literal["student", "teacher"]

HEADER = "ssl_lib"
"""The key of what an exported file says of itself, in JSON."""


class TrainedBackbone(nn.Module):
    """A frozen network from normalized images to features, in eval mode: float (N, C, H, W) -> (N, out_dim).

    Args:
        net: The network, with an `out_dim`.
        preprocessing: From images to what the network takes.
        name: The network's name in `BACKBONES`; empty for one that has none, which fewer formats can export.
        arguments: That build it.
        part: Whose weights these are, "student" or "teacher".
        origin: Where they come from, for model cards: `method`, `steps`, `evaluation`; plain values.

    Attributes:
        size: Side of the images in pixels.
        mean: Of each channel, in [0, 1].
        std: Likewise.
        out_dim: Width of the features.
    """

    def __init__(
        self,
        net: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str = "",
        arguments: Mapping[str, Any] | None = None,
        part: str = "student",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        self.size, self.mean, self.std = preprocessing.size, preprocessing.mean, preprocessing.std
        self.out_dim: int = net.out_dim  # type: ignore[assignment]
        self.name, self.arguments, self.part, self.origin = name, dict(arguments or {}), part, dict(origin or {})
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalized images (N, C, H, W) to features (N, out_dim)."""
        features: Tensor = self.net(images)
        return features

    def preprocess(self, images: Tensor | Image.Image | Sequence[Image.Image]) -> Tensor:
        """Makes uint8 (N, C, H, W) or PIL images ready, on the network's device; see `Preprocessing`."""
        return self.preprocessing(images, device_of(self))

    @property
    def metadata(self) -> dict[str, Any]:
        """What every export says of itself; plain values. `license` is the user's to fill in."""
        return {
            "ssl_lib": __version__,
            "backbone": {"name": self.name, "arguments": self.arguments},
            "part": self.part,
            "out_dim": self.out_dim,
            "preprocessing": {
                "channels": self.preprocessing.channels,
                "interpolation": "bicubic",
                **dataclasses.asdict(self.preprocessing),
            },
            "license": None,
            **self.origin,
        }

    @classmethod
    def from_run(cls, run: str | Path, part: Part | None = None, overrides: Sequence[str] = ()) -> TrainedBackbone:
        """Reads the backbone of a run, on the CPU.

        Args:
            run: A run's folder, for its last checkpoint, or one checkpoint file.
            part: "student" or "teacher", in methods that have both; None is what the evaluation takes.
            overrides: As for `load_run`.

        Raises:
            ConfigError: The method has no such part, or an override is wrong.
            CheckpointError: As for `load_run`.
            DataError: The checkpoint is of a version that did not note the pre-processing, and the data are missing.
        """
        path = find_checkpoint(run)
        saved, config = load_saved(path, overrides)
        method = trained_method(config, saved, path)
        parts = _parts(method)
        evaluated = next((name for name, net in parts.items() if net is method.encoder), "encoder")
        net = method.encoder if part is None else parts.get(part)
        if net is None:
            raise ConfigError(f"{config.method.name} has no {part}: it has {' and '.join(parts)} alone")
        origin: dict[str, Any] = {"method": config.method.name, "steps": saved["step"]}
        if net is method.encoder:
            origin["evaluation"] = _evaluation(path, saved["step"])
        backbone = config.backbone
        preprocessing = _preprocessing(saved, config, overrides, path)
        name, arguments = backbone.name, backbone.arguments
        return cls(net, preprocessing, name=name, arguments=arguments, part=part or evaluated, origin=origin)

    @classmethod
    def from_file(cls, path: str | Path) -> TrainedBackbone:
        """Reads what `ssl-lib export --to safetensors` or `--to huggingface` wrote; executes nothing of it.

        Args:
            path: The file, or the folder.

        Raises:
            ConfigError: There is none, it is damaged or no such export, or its backbone is not registered here.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        said = read_header(path)
        try:
            header = json.loads(said[HEADER])
            name, arguments = header["backbone"]["name"], header["backbone"]["arguments"]
            images = header["preprocessing"]
            kept = {field.name: images[field.name] for field in dataclasses.fields(Preprocessing)}
            preprocessing = Preprocessing(**kept)
            origin = {key: header[key] for key in ("method", "steps", "evaluation") if key in header}
            part = str(header["part"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is no export of ssl_lib: its header does not say what is inside") from error
        builder = BACKBONES[name]
        arguments = {**check_arguments(arguments, arguments_of(builder), f"{path}: backbone"), **_unset(arguments)}
        net = call(f"{path}: backbone {name}", builder, **arguments)
        load_weights(net, str(path))
        return cls(net, preprocessing, name=name, arguments=arguments, part=part, origin=origin)


def _parts(method: Method) -> dict[str, nn.Module]:
    """The backbones of a method by their part."""
    found: dict[str, nn.Module] = {"student": method.backbone}
    for teacher, parts in method.ema_pairs():
        copies = (copy for copy, part in zip(teacher.parts, parts, strict=True) if part is method.backbone)
        found.update(("teacher", copy) for copy in copies)
    return found


def _unset(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What keeps a builder from looking for weights of its own."""
    return {name: value for name, value in NO_WEIGHTS.items() if name in arguments}


def _preprocessing(saved: Mapping[str, Any], config: RunConfig, overrides: Sequence[str], path: Path) -> Preprocessing:
    """The checkpoint's; that of the data, where it has none or where the overrides are about the images."""
    changed = any(text.startswith(("data", "evaluation")) for text in overrides)
    known = saved_preprocessing(saved, path)
    return trained_preprocessing(saved, config, *build_views(config), path) if changed or known is None else known


def _evaluation(path: Path, step: int) -> dict[str, Any] | None:
    """What an evaluation of this checkpoint wrote into the run's folder; None where there is none of this step."""
    for file in (run_folder(path) / EVALUATION_FILE, evaluation_file(path)):
        try:
            content, _ = read_results(file)
        except (OSError, ValueError):
            continue
        if content.get("steps") == step:
            return {key: value for key, value in content.items() if key != "details"}
    return None
