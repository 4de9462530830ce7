"""Evaluates an encoder with several protocols, next to a random backbone and raw pixels as baselines."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ssl_lib.data import ImageData, as_image_data
from ssl_lib.data.labels import matched
from ssl_lib.data.leakage import warn_of_shared_images
from ssl_lib.data.preprocessing import Preprocessing, chosen_preprocessing
from ssl_lib.errors import DataError, SSLError
from ssl_lib.evaluation.base import EvaluatedEncoder, EvaluationProtocol, Scores, draw, needs_labels
from ssl_lib.evaluation.features import RawPixels, device_of
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Results, read_results
from ssl_lib.utils.files import write_text
from ssl_lib.utils.precision import float32_products
from ssl_lib.views import ViewPipeline

__all__ = ["Evaluator", "add_results", "protocol_name", "write_results"]


class Evaluator:
    """Evaluates encoders on labeled test images, or without labels by protocols that need none.

    Args:
        bank: Labeled training images; with or without labels if no protocol needs them.
        queries: Labeled test images; None if no protocol needs labels.
        protocols: The protocols to run.
        random_encoder: A backbone with random weights, used as a baseline.
        size: Side of the images fed to the encoder in pixels, if `preprocessing` is None.
        resize: Length in pixels that the shorter side is resized to before cropping, if `preprocessing` is None.
        workers: Number of worker processes that decode images, for data not in memory.
        limit: Maximum number of images of each set, a fixed random subset; None uses all images.
        views: Creates the views that the run was trained with, for protocols that use them.
        preprocessing: Resizes and normalizes all images; None is `Preprocessing.of(bank, size, resize)`.

    Raises:
        DataError: The test images have a class that the training images do not have.
        ValueError: Bank or queries have no labels, are too few for a protocol, or do not fit the encoder; there is no
            preprocessing and the bank has no mean and std; or two protocols return a metric of the same name.
        ConfigError: A protocol needs a package that is not installed.
    """

    def __init__(
        self,
        bank: Dataset[Any] | Any,
        queries: Dataset[Any] | Any | None,
        protocols: Sequence[EvaluationProtocol],
        *,
        random_encoder: nn.Module,
        size: int | None = None,
        resize: int | None = None,
        workers: int | None = None,
        limit: int | None = None,
        views: ViewPipeline | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.bank, self.protocols = as_image_data(bank), tuple(protocols)
        self.queries = _labeled(queries, self.bank, self.protocols)
        self.random_encoder, self.limit = random_encoder, limit
        self.preprocessing = chosen_preprocessing(preprocessing, self.bank, size, resize)
        self.size, self.resize = self.preprocessing.size, self.preprocessing.resize
        keys = [measure.key for protocol in protocols for measure in protocol.measures]
        if duplicates := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(
                f"several protocols return the metric {', '.join(duplicates)}: run them in separate evaluations"
            )
        self._options: dict[str, Any] = {
            "workers": workers,
            "views": views,
            "preprocessing": self.preprocessing,
        }
        self._baselines: dict[str, list[Scores]] = {}
        self._choose()
        self._check_input()

    def limited(self, count: int | None) -> Evaluator:
        """The same evaluator with at most `count` images of each set."""
        if count == self.limit:
            return self
        part = copy.copy(self)
        part.limit, part._baselines = count, {}
        part._choose()
        return part

    def _choose(self) -> None:
        """Draws the images of both sets, and checks the protocols with the labels of the bank."""
        self._indices = draw(len(self.bank), self.limit), draw(len(self.queries or ()), self.limit)
        labels = torch.full((len(self.bank),), -1) if self.bank.labels is None else self.bank.labels
        for protocol in self.protocols:
            protocol.check(labels[self._indices[0]])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the protocols and of the images, as JSON types."""
        protocols = {protocol_name(p): dataclasses.asdict(p) for p in self.protocols}  # type: ignore[call-overload]
        skipped = [len(getattr(data, "skipped", ())) for data in (self.bank, self.queries)]
        bank, queries = (len(indices) - missing for indices, missing in zip(self._indices, skipped, strict=True))
        options = {"size": self.size, "resize": self.resize, "limit": self.limit}
        images = {"bank": bank, "queries": queries, "skipped": sum(skipped), **options}
        names = () if self.queries is None else self.queries.class_names
        return {"protocols": protocols, "images": images, "classes": list(names)}

    def __call__(self, encoder: nn.Module) -> Results:
        """Evaluates an encoder on the device of its parameters. Its mode and the global random state are restored.

        The baselines are computed on the first call. Matrix products use full float32 even inside an fp32 run on CUDA,
        which trains with TF32, so that results during and after training are the same.

        Raises:
            DataError: A protocol cannot be computed, for instance because unreadable images were skipped and too few
                are left; the message names it.
        """
        device = device_of(encoder)
        generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with generators, float32_products("highest"):
            if not self._baselines:
                self.random_encoder.to(device)
                # Raw pixels are centered: otherwise the mean brightness dominates their cosine similarity.
                rows = ("raw pixels", RawPixels(), True), ("random init", self.random_encoder, False)
                self._baselines = {  # one row at a time, so that only one set of features is in memory
                    title: self._score(title, net, device, center) for title, net, center in rows
                }
                self.random_encoder.cpu()  # free device memory for training
            scored = {**self._baselines, "trained": self._score("trained", encoder, device)}
        names = [protocol_name(protocol) for protocol in self.protocols]
        measures = tuple(measure for protocol in self.protocols for measure in protocol.measures)
        values = {row: {k: v for each in found for k, v in each.values.items()} for row, found in scored.items()}
        details = {
            row: {name: each.details for name, each in zip(names, found, strict=True) if each.details}
            for row, found in scored.items()
        }
        return Results(measures, values, details)

    def _score(self, title: str, encoder: nn.Module, device: torch.device, center: bool = False) -> list[Scores]:
        options = {"center": center, "device": device, **self._options}
        subject = EvaluatedEncoder(title, encoder, self.bank, self.queries, *self._indices, **options)
        scores = []
        for protocol in self.protocols:
            try:
                scores.append(protocol(subject))
            except SSLError:
                raise
            except ValueError as error:  # check() saw the labels of all images, including those skipped later
                skipped = len(getattr(self.bank, "skipped", ()))
                left_out = f"; unreadable training images skipped: {skipped}" if skipped else ""
                raise DataError(f"evaluation.{protocol_name(protocol)}, {title}: {error}{left_out}") from error
        return scores

    @torch.no_grad()
    def _check_input(self) -> None:
        """Feeds one black image to the random encoder, to detect an unsupported image size immediately."""
        image = torch.zeros(1, *self.preprocessing.shape, device=device_of(self.random_encoder))
        try:
            self.random_encoder.eval()(image)
        except (RuntimeError, AssertionError) as error:
            shape = " x ".join(map(str, self.preprocessing.shape))
            raise ValueError(
                f"the backbone does not accept images of {shape} (channels, height, width): {error}"
            ) from error


def _labeled(
    queries: Dataset[Any] | Any | None, bank: ImageData, protocols: Sequence[EvaluationProtocol]
) -> ImageData | None:
    """Returns the test images with the training images' classes; None if labels are missing and no protocol needs them.

    Raises:
        ValueError: A protocol needs labels that are missing.
    """
    data = None if queries is None else as_image_data(queries)
    if data is None or data.labels is None or bank.labels is None:
        if names := [protocol_name(protocol) for protocol in protocols if needs_labels(protocol)]:
            raise ValueError(
                f"{', '.join(names)} needs labels for the training images (bank) and for the test images (queries)"
            )
        return None
    data = matched(data, bank)
    warn_of_shared_images(bank, data)
    return data


def write_results(path: Path, evaluator: Evaluator, results: Results, steps: int, **more: Any) -> None:
    """Writes results as JSON, with the evaluation settings, the number of training updates and the items of `more`."""
    write_text(path, results.as_json(steps=steps, **evaluator.settings, **more))


def add_results(path: Path, evaluator: Evaluator, results: Results, steps: int) -> None:
    """Like `write_results`, but keeps results of other protocols for the same images and number of updates."""
    settings = evaluator.settings
    try:
        content, earlier = read_results(path)
        same = (content["steps"], content["images"]) == (steps, settings["images"])
        before = content["protocols"] if same else {}
    except (DataError, KeyError):
        before = {}
    if before:
        results, settings = results.joined(earlier), {**settings, "protocols": {**before, **settings["protocols"]}}
    write_text(path, results.as_json(steps=steps, **settings))


def protocol_name(protocol: EvaluationProtocol) -> str:
    """The name under which a protocol is registered, which is its key in a config; otherwise its class name."""
    cls = type(protocol)
    return next((name for name in PROTOCOLS if PROTOCOLS[name] is cls), cls.__name__)
