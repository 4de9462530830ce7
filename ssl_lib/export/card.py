"""Writes the model card of an exported backbone: contents, usage code and evaluation results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.runs.results import Metric, Results

__all__ = ["model_card"]


def model_card(backbone: TrainedBackbone, usage: str, library: str = "pytorch") -> str:
    """Returns Markdown with the front matter of a Hugging Face model card.

    Args:
        backbone: The exported backbone.
        usage: Python code that loads the file and computes features from image files.
        library: The library that loads the file, by its name on the hub.
    """
    method, steps = backbone.origin.get("method"), backbone.origin.get("steps")
    trained = f"trained with {method} ({backbone.part}) for {steps:,} steps, " if method else ""
    network = backbone.name or type(backbone.net).__name__
    tags = "".join(f"- {tag}\n" for tag in ("self-supervised-learning", "ssl_lib", *([method] if method else [])))
    return f"""---
library_name: {library}
pipeline_tag: image-feature-extraction
tags:
{tags}# license: choose one; the license of the training images may restrict your choice
---

# {network}, a backbone trained without labels

{network}, {trained}exported by ssl_lib {backbone.metadata["ssl_lib"]}. It maps an image to {backbone.out_dim} features.

## Use

Preprocessing: {_describe(backbone.preprocessing)}.

```python
{usage}
```

## Evaluation

{_evaluation(backbone)}
"""


def _describe(images: Preprocessing) -> str:
    mode = "RGB" if images.channels == 3 else "grayscale"
    return (
        f"convert to {mode}, resize the shorter side to {images.resize} pixels, crop the center to "
        f"{images.size} x {images.size}, and normalize"
    )


def _evaluation(backbone: TrainedBackbone) -> str:
    evaluation: Mapping[str, Any] | None = backbone.origin.get("evaluation")
    if not evaluation:
        return "These weights have not been evaluated. Run `ssl-lib evaluate RUN` and export again to add the results."
    measures = tuple(Metric(**measure) for measure in evaluation["measures"])
    table = Results(measures, evaluation["results"], details={}).table()
    return f"Compared with a network with random weights and with raw pixels:\n\n```text\n{table}\n```"
