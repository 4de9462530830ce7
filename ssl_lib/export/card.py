"""The model card: what a file holds, how to use it, and what it was measured to be worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lib.results import Measure, Results
from ssl_lib.trained_backbone import Backbone

__all__ = ["model_card", "preprocessing_code"]


def model_card(backbone: Backbone, usage: str, library: str = "pytorch") -> str:
    """Markdown with the front matter of a Hugging Face model card.

    Args:
        backbone: What was exported.
        usage: Python that reads the file and passes `images` through the network.
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

Images are made ready like this: the shorter side to {backbone.preprocessing.resize} pixels, the centre of
{backbone.size} x {backbone.size}, normalised.

```python
{preprocessing_code(backbone)}
```

Then, with `images` a batch of them, float (N, {backbone.preprocessing.channels}, {backbone.size}, {backbone.size}):

```python
{usage}
```

## Evaluation

{_evaluation(backbone)}
"""


def preprocessing_code(backbone: Backbone) -> str:
    """A torchvision transform `prepare`, from a PIL image to what the network takes."""
    images = backbone.preprocessing
    mode = "RGB" if images.channels == 3 else "L"
    return f"""import torch
from torchvision.transforms import v2

prepare = v2.Compose([
    v2.Lambda(lambda image: image.convert("{mode}")),
    v2.PILToTensor(),
    v2.Resize({images.resize}, v2.InterpolationMode.BICUBIC, antialias=True),
    v2.CenterCrop({images.size}),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize({list(images.mean)}, {list(images.std)}),
])"""


def _evaluation(backbone: Backbone) -> str:
    found: Mapping[str, Any] | None = backbone.origin.get("evaluation")
    if not found:
        return "None of these weights is known. `ssl-lib evaluate RUN` measures one, which a new export then shows."
    measures = tuple(Measure(**measure) for measure in found["measures"])
    table = Results(measures, found["results"], details={}).table()
    return f"Beside a network with random weights, and the pixels themselves:\n\n```text\n{table}\n```"
