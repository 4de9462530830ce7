"""What a backbone is worth, beside one that learned nothing and beside the pixels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ssl_lib.data import ImageData, as_image_data
from ssl_lib.evaluation.features import RawPixels, device_of, extract_features
from ssl_lib.evaluation.protocols import EvaluationProtocol

__all__ = ["Evaluator", "format_table"]

Results = dict[str, dict[str, float]]


class Evaluator:
    """Scores encoders on labelled images that they were not trained on.

    Args:
        bank: Labelled training images.
        queries: Labelled test images.
        protocols: What to measure.
        random_encoder: A backbone with random weights, for the baseline.
        size: Side of the images shown to the encoder; see `evaluation_batches`.
        workers: Processes that decode, for data not in memory.

    Raises:
        ValueError: Bank or queries have no labels, are too few for a protocol, or do not suit the encoder.
    """

    def __init__(
        self,
        bank: ImageData | Dataset[Any],
        queries: ImageData | Dataset[Any],
        protocols: Sequence[EvaluationProtocol],
        *,
        random_encoder: nn.Module,
        size: int | None = None,
        workers: int | None = None,
    ) -> None:
        bank, queries = as_image_data(bank), as_image_data(queries)
        if bank.labels is None or queries.labels is None:
            raise ValueError("evaluation needs labels for both the training (bank) and the test images (queries)")
        self.bank, self.queries, self.protocols = bank, queries, protocols
        self.random_encoder = random_encoder
        self.size, self.workers = size, workers
        self._baselines: Results = {}
        for protocol in protocols:
            protocol.check(bank.labels)
        if size is not None:
            self._try_out(size)

    def __call__(self, encoder: nn.Module) -> Results:
        """Accuracies in [0, 1], by row (`raw pixels`, `random init`, `trained`) and protocol key."""
        if not self._baselines:
            self.random_encoder.to(device_of(encoder))
            self._baselines = {
                "raw pixels": self._score(RawPixels(), "raw pixels", centre=True),
                "random init": self._score(self.random_encoder, "random init"),
            }
        return {**self._baselines, "trained": self._score(encoder, "trained")}

    @torch.no_grad()
    def _try_out(self, size: int) -> None:
        """Passes one black image through the random encoder, so that a size it cannot take is refused at once."""
        image = torch.zeros(1, self.bank.channels, size, size, device=device_of(self.random_encoder))
        try:
            self.random_encoder.eval()(image)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"the backbone cannot take images of {size} pixels: {error}") from error

    def _score(self, encoder: nn.Module, title: str, centre: bool = False) -> dict[str, float]:
        bank, bank_labels = self._extract(encoder, self.bank, title)
        queries, query_labels = self._extract(encoder, self.queries, title)
        if centre:  # the brightness that all images share would drown the cosine of pixels
            mean = bank.mean(0)
            bank, queries = bank - mean, queries - mean
        return {protocol.key: protocol(bank, bank_labels, queries, query_labels) for protocol in self.protocols}

    def _extract(self, encoder: nn.Module, data: ImageData, title: str) -> tuple[Tensor, Tensor]:
        features, labels = extract_features(encoder, data, size=self.size, workers=self.workers, title=title)
        assert labels is not None
        return features, labels


def format_table(results: Results, protocols: Sequence[EvaluationProtocol]) -> str:
    """A plain table of accuracies in percent, a row per encoder and a column per protocol."""
    titles = [protocol.title for protocol in protocols]
    rows = [["accuracy, %", *titles]]
    rows += [[name, *(f"{100 * scores[p.key]:.1f}" for p in protocols)] for name, scores in results.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
