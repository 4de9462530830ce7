"""The model card: what a file holds, how to use it, and what it was measured to be worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.experiment.trained_backbone import TrainedBackbone
from ssl_lib.runs.results import Metric, Results

__all__ = ["model_card"]


def model_card(backbone: TrainedBackbone, usage: str, library: str = "pytorch") -> str:
    """Markdown with the front matter of a Hugging Face model card.

    Args:
        backbone: What was exported.
        usage: Python that reads the file and goes from image files to features.
        library: Which reads it, as the hub calls it.
    """
    method, steps = backbone.origin.get("method"), backbone.origin.get("steps")
    trained = f"trained by {method} ({backbone.part}), {steps:,} updates, " if method else ""
    network = backbone.name or type(backbone.net).__name__
    tags = "".join(f"- {tag}\n" for tag in ("self-supervised-learning", "ssl_lib", *([method] if method else [])))
    return f"""---
library_name: {library}
pipeline_tag: image-feature-extraction
tags:
{tags}# license: choose one; the images that the network was trained on may have a say in it
---

# {network}, a backbone trained without labels

{network}, {trained}with ssl_lib {backbone.metadata["ssl_lib"]}: images to {backbone.out_dim} features.

## Use

Images are made ready like this: {_shown(backbone.preprocessing)}.

```python
{usage}
```

## Evaluation

{_evaluation(backbone)}
"""


def _shown(images: Preprocessing) -> str:
    kind = "in color" if images.channels == 3 else "gray"
    return (
        f"{kind}, the shorter side to {images.resize} pixels, the center of {images.size} x {images.size}, normalized"
    )


def _evaluation(backbone: TrainedBackbone) -> str:
    found: Mapping[str, Any] | None = backbone.origin.get("evaluation")
    if not found:
        return "None of these weights is known. `ssl-lib evaluate RUN` measures one, which a new export then shows."
    measures = tuple(Metric(**measure) for measure in found["measures"])
    table = Results(measures, found["results"], details={}).table()
    return f"Beside a network with random weights, and the pixels themselves:\n\n```text\n{table}\n```"
