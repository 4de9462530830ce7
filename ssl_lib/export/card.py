"""Writes the model card of an exported backbone: contents, usage code and evaluation results."""

from __future__ import annotations

from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.export.snippets import render
from ssl_lib.runs.results import Metric, Results

__all__ = ["model_card"]


def model_card(backbone: TrainedBackbone, usage: str, library: str = "pytorch") -> str:
    """Returns Markdown with the front matter of a Hugging Face model card.

    Args:
        backbone: The exported backbone.
        usage: Python code that loads the file and computes features from image files.
        library: The library that loads the file, by its name on the hub.
    """
    table, evaluation = "", backbone.origin.get("evaluation")
    if evaluation:
        measures = tuple(Metric(**measure) for measure in evaluation["measures"])
        table = Results(measures, evaluation["results"], details={}).table()
    card = render(
        "card.md",
        backbone,
        usage=usage,
        library=library,
        table=table,
        network=backbone.name or type(backbone.net).__name__,
        part=backbone.part,
        method=backbone.origin.get("method"),
        steps=backbone.origin.get("steps"),
        version=backbone.metadata["ssl_lib"],
    )
    return f"{card}\n"
