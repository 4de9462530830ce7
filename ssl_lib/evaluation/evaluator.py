"""What a backbone is worth, beside one that learned nothing and beside the pixels themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ssl_lib.data import as_image_data
from ssl_lib.errors import DataError, SSLError
from ssl_lib.evaluation.base import EvaluatedEncoder, EvaluationProtocol, Scores, draw
from ssl_lib.evaluation.features import RawPixels, device_of
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Results, read_results
from ssl_lib.utils.files import write_text
from ssl_lib.utils.precision import float32_products
from ssl_lib.views import ViewPipeline

__all__ = ["Evaluator", "add_results", "protocol_name", "write_results"]


class Evaluator:
    """Scores encoders on labeled images that they were not trained on.

    Args:
        bank: Labeled training images.
        queries: Labeled test images.
        protocols: What to measure.
        random_encoder: A backbone with random weights, for the baseline.
        size: Side of the images shown to the encoder; see `evaluation_batches`.
        resize: Pixels that the shorter side is resized to first; see `evaluation_batches`.
        workers: Processes that decode, for data not in memory.
        limit: Takes at most so many images of each set, always the same ones, drawn at random; None takes all.
        views: Makes the views that the run was trained with, for the protocols that look at them.

    Raises:
        ValueError: Bank or queries have no labels, are too few for a protocol, or do not suit the encoder; or two
            protocols have figures of one name.
        ConfigError: A protocol needs a package that is not installed.
    """

    def __init__(
        self,
        bank: Dataset[Any] | Any,
        queries: Dataset[Any] | Any,
        protocols: Sequence[EvaluationProtocol],
        *,
        random_encoder: nn.Module,
        size: int | None = None,
        resize: int | None = None,
        workers: int | None = None,
        limit: int | None = None,
        views: ViewPipeline | None = None,
    ) -> None:
        bank, queries = as_image_data(bank), as_image_data(queries)
        if bank.labels is None or queries.labels is None:
            raise ValueError("evaluation needs labels for both the training (bank) and the test images (queries)")
        self.bank, self.queries, self.protocols = bank, queries, tuple(protocols)
        self.random_encoder = random_encoder
        self.size, self.resize, self.workers, self.limit, self.views = size, resize, workers, limit, views
        keys = [measure.key for protocol in self.protocols for measure in protocol.measures]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"several protocols measure {', '.join(twice)}: evaluate with them one after the other")
        chosen = draw(len(bank), limit), draw(len(queries), limit)
        self._subject = partial(
            EvaluatedEncoder,
            bank=bank,
            queries=queries,
            bank_indices=chosen[0],
            query_indices=chosen[1],
            size=size,
            resize=resize,
            workers=workers,
            views=views,
        )
        self._baselines: dict[str, list[Scores]] = {}
        for protocol in protocols:
            protocol.check(bank.labels if chosen[0] is None else bank.labels[chosen[0]])
        if size is not None:
            self._try_out(size)

    def limited(self, count: int | None) -> Evaluator:
        """The same on at most so many images of each set."""
        if count == self.limit:
            return self
        return Evaluator(
            self.bank,
            self.queries,
            self.protocols,
            random_encoder=self.random_encoder,
            size=self.size,
            resize=self.resize,
            workers=self.workers,
            limit=count,
            views=self.views,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The protocols with their settings, and the images, as plain values."""
        sets = {"bank": self.bank, "queries": self.queries}
        skipped = {name: len(getattr(data, "skipped", ())) for name, data in sets.items()}
        counts = {name: min(len(data), self.limit or len(data)) - skipped[name] for name, data in sets.items()}
        protocols = {protocol_name(p): dataclasses.asdict(p) for p in self.protocols}  # type: ignore[call-overload]
        shown = {"size": self.size, "resize": self.resize, "limit": self.limit}
        images = {**counts, "skipped": sum(skipped.values()), **shown}
        return {"protocols": protocols, "images": images, "classes": list(self.queries.class_names)}

    def __call__(self, encoder: nn.Module) -> Results:
        """Judges an encoder where its parameters are; its mode and the global random generators are left as they were.

        The baselines are measured the first time. Matrix products are in full float32, also within an fp32 run on CUDA,
        whose own are in TF32, so that the same figures come out in training and afterwards.

        Raises:
            DataError: Without the images that cannot be read there are too few for a protocol.
        """
        device = device_of(encoder)
        generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with generators, float32_products("highest"):
            if not self._baselines:
                self.random_encoder.to(device)
                # The brightness that all images share would drown the cosine of pixels: they are centerd.
                rows = ("raw pixels", RawPixels(), True), ("random init", self.random_encoder, False)
                self._baselines = {  # one after the other, whose features are let go before the next one's are made
                    title: self._score(self._subject(title, net, center=center, device=device))
                    for title, net, center in rows
                }
                self.random_encoder.cpu()  # the training may need the room
            scored = {**self._baselines, "trained": self._score(self._subject("trained", encoder, device=device))}
        names = [protocol_name(protocol) for protocol in self.protocols]
        measures = tuple(measure for protocol in self.protocols for measure in protocol.measures)
        values = {row: {k: v for each in found for k, v in each.values.items()} for row, found in scored.items()}
        details = {
            row: {name: each.details for name, each in zip(names, found, strict=True) if each.details}
            for row, found in scored.items()
        }
        return Results(measures, values, details)

    def _score(self, subject: EvaluatedEncoder) -> list[Scores]:
        try:
            return [protocol(subject) for protocol in self.protocols]
        except ValueError as error:  # the labels that were checked were those of all
            skipped = len(getattr(self.bank, "skipped", ()))
            if not skipped or isinstance(error, SSLError):
                raise
            raise DataError(f"evaluation: {error}; unreadable training images left out: {skipped}") from error

    @torch.no_grad()
    def _try_out(self, size: int) -> None:
        """Passes one black image through the random encoder, so that a size it cannot take is refused at once."""
        image = torch.zeros(1, self.bank.channels, size, size, device=device_of(self.random_encoder))
        try:
            self.random_encoder.eval()(image)
        except (RuntimeError, AssertionError) as error:
            shape = f"{self.bank.channels} x {size} x {size}"
            raise ValueError(
                f"the backbone cannot take images of {shape} (channels, height, width): {error}"
            ) from error


def write_results(path: Path, evaluator: Evaluator, results: Results, steps: int, **more: Any) -> None:
    """Writes results as JSON, with the settings and images they were measured by, the updates trained, and `more`."""
    write_text(path, results.as_json(steps=steps, **evaluator.settings, **more))


def add_results(path: Path, evaluator: Evaluator, results: Results, steps: int) -> None:
    """As `write_results`, but leaves what other protocols found on the same images, after as many updates."""
    settings = evaluator.settings
    try:
        content, earlier = read_results(path)
        same = (content["steps"], content["images"]) == (steps, settings["images"])
        before = content["protocols"] if same else {}
    except (OSError, ValueError, KeyError):
        before = {}
    if before:
        results, settings = results.joined(earlier), {**settings, "protocols": {**before, **settings["protocols"]}}
    write_text(path, results.as_json(steps=steps, **settings))


def protocol_name(protocol: EvaluationProtocol) -> str:
    """Under which it is registered, which is where its settings stand in a config; else its class's."""
    kind = type(protocol)
    return next((name for name in PROTOCOLS if PROTOCOLS[name] is kind), kind.__name__)
