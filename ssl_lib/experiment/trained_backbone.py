"""A trained backbone with its preprocessing and provenance, loaded from a run or from an exported file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ssl_lib.backbones.weights import load_weights, read_header
from ssl_lib.config.convert import arguments_of, check_arguments
from ssl_lib.config.resolve import call, without_weights
from ssl_lib.config.run_config import Component
from ssl_lib.data.preprocessing import Picture, Preprocessing
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.evaluation.features import device_of
from ssl_lib.experiment.load import load_saved, trained_method, trained_preprocessing
from ssl_lib.methods import Method
from ssl_lib.registry import BACKBONES
from ssl_lib.runs.files import EVALUATION_FILE, evaluation_file, run_folder
from ssl_lib.runs.folder import RunFolder
from ssl_lib.training.checkpoint_folder import Checkpoint
from ssl_lib.version import __version__

__all__ = ["HEADER", "Part", "TrainedBackbone"]

Part = Literal["student", "teacher"]

HEADER = "ssl_lib"
"""The key of the JSON metadata in an exported file."""


class TrainedBackbone(nn.Module):
    """A frozen network from normalized images to features, in eval mode: float (N, C, H, W) -> (N, out_dim).

    Args:
        net: The network, with an attribute `out_dim`.
        preprocessing: Converts images to the network's input.
        name: The network's name in `BACKBONES`. Empty for an unregistered network, which fewer formats can export.
        arguments: Arguments that build the network.
        part: Which weights these are, "student" or "teacher".
        origin: Provenance for model cards as plain values: `method`, `steps`, `evaluation`.

    Attributes:
        size: Side of the input images in pixels.
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel, in [0, 1].
        out_dim: Dimension of the features.
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

    def preprocess(self, images: Tensor | Picture | Sequence[Picture]) -> Tensor:
        """Preprocesses uint8 (N, C, H, W), PIL images or files on the network's device; see `Preprocessing`.

        Files are read as in the training: with the same range, depth and bands.
        """
        arranged = self.preprocessing.arrange(images) if isinstance(images, Tensor) else images
        return self.preprocessing(arranged, device_of(self))

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of every export as plain values. `license` is None, for the user to fill in."""
        return {
            "ssl_lib": __version__,
            "backbone": {"name": self.name, "arguments": self.arguments},
            "part": self.part,
            "out_dim": self.out_dim,
            "preprocessing": {
                "kind": self.preprocessing.kind,
                "channels": self.preprocessing.channels,
                "interpolation": "bicubic",
                **self.preprocessing.plain(),
            },
            "license": None,
            **self.origin,
        }

    @classmethod
    def from_run(
        cls, run: str | Path | Checkpoint, part: Part | None = None, changes: Mapping[str, Any] | None = None
    ) -> TrainedBackbone:
        """Loads the backbone of a run on the CPU.

        Args:
            run: A run folder, whose last checkpoint is loaded, or a checkpoint file.
            part: "student" or "teacher", for methods that have both. None is the part that the evaluation uses.
            changes: See `load_run`.

        Raises:
            ConfigError: The method has no such part, or a change is wrong.
            CheckpointError: See `load_run`.
        """
        checkpoint, config = load_saved(run, changes)
        method = trained_method(config, checkpoint)
        parts = _parts(method)
        evaluated = next((name for name, net in parts.items() if net is method.encoder), "encoder")
        net = method.encoder if part is None else parts.get(part)
        if net is None:
            raise ConfigError(f"{config.method.name} has no {part}; available: {', '.join(parts)}")
        origin: dict[str, Any] = {"method": config.method.name, "steps": checkpoint.step}
        if net is method.encoder:
            origin["evaluation"] = _evaluation(checkpoint)
        preprocessing = trained_preprocessing(checkpoint, config, changes)
        name, arguments = config.backbone.name, config.backbone.arguments
        return cls(net, preprocessing, name=name, arguments=arguments, part=part or evaluated, origin=origin)

    @classmethod
    def from_file(cls, path: str | Path) -> TrainedBackbone:
        """Loads an export of `ssl-lib export --to safetensors` or `--to huggingface`, without executing code from it.

        Args:
            path: The file or folder.

        Raises:
            ConfigError: The file is missing, damaged or not such an export, or its backbone is not registered.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        header_texts = read_header(path)
        try:
            header = json.loads(header_texts[HEADER])
            name, arguments = header["backbone"]["name"], header["backbone"]["arguments"]
            images = header["preprocessing"]
            kept = {
                field.name: images[field.name] for field in dataclasses.fields(Preprocessing) if field.name in images
            }
            preprocessing = Preprocessing(**kept)
            origin = {key: header[key] for key in ("method", "steps", "evaluation") if key in header}
            part = str(header["part"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is not an ssl_lib export: its header has no valid metadata") from error
        checked = check_arguments(arguments, arguments_of(BACKBONES[name]), f"{path}: backbone")
        arguments = without_weights(Component(name=name, arguments=checked)).arguments
        net = call(f"{path}: backbone {name}", BACKBONES[name], **arguments)
        load_weights(net, str(path))
        return cls(net, preprocessing, name=name, arguments=arguments, part=part, origin=origin)


def _parts(method: Method) -> dict[str, nn.Module]:
    """Returns the backbones of a method by part, "student" and, if there is one, "teacher"."""
    backbones: dict[str, nn.Module] = {"student": method.backbone}
    for teacher, modules in method.ema_pairs():
        copies = (copy for copy, module in zip(teacher.parts, modules, strict=True) if module is method.backbone)
        backbones.update(("teacher", copy) for copy in copies)
    return backbones


def _evaluation(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Returns the evaluation of this checkpoint in the run's folder, or None if there is none of its step."""
    run = RunFolder(run_folder(checkpoint.path))
    for name in (EVALUATION_FILE, evaluation_file(checkpoint.path).name):
        with contextlib.suppress(DataError):
            found = run.evaluation(name)
            if found is not None and found[0]["steps"] == checkpoint.step:
                return {key: value for key, value in found[0].items() if key != "details"}
    return None
