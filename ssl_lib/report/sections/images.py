"""Pictures for the page, and the section of nearest neighbors."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.report.observation import one_per_class
from ssl_lib.report.records import Observed, Run, observed_runs

__all__ = ["Sheet", "data_uri", "make_sheet", "neighbors"]

_THUMBNAIL = 56  # pixels
_LOSSLESS = 32  # images up to this side are PNG, so that no pixel changes
_QUERIES = 10


def neighbors(runs: Sequence[Run], sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    """Returns neighbors by trained weights, next to random ones or of several runs, which share groups by images."""
    summaries, groups = list[dict[str, Any]](), dict[str, dict[str, Any]]()
    for _, run, observed in observed_runs(runs):
        if same := _same_class(observed):
            count = observed.neighbors["trained"].shape[1]
            summaries.append({"run": run.name, "count": count, "source": observed.source, "same": same})
        if sheet := sheets.get(run.name):
            near = {title: observed.neighbors[title] for title in ("trained", "random init")}
            group = groups.setdefault(sheet.name, {"sheet": sheet, "sample": observed.sample, "near": {}})
            group["near"] |= near if len(runs) == 1 else {run.name: near["trained"]}
    for group in groups.values():
        sample = group["sample"]
        queries = one_per_class(sample.labels, len(sample), _QUERIES)
        group["queries"] = {query: _lines(sample.labels, query, group["near"]) for query in queries}
    return {"summaries": summaries, "groups": list(groups.values())}


def _same_class(observed: Observed) -> list[str]:
    """Returns the percentage of neighbors that have the same class by subject; empty without labels or neighbors."""
    labels = observed.sample.labels
    return [
        f"{subject} {100 * (labels[near] == labels.unsqueeze(1)).double().mean().item():.1f}\u00a0%"
        for subject, near in observed.neighbors.items()
        if labels is not None and near.numel()
    ]


def _lines(labels: Tensor | None, query: int, near: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Returns the neighbors of an image, and whether they have another class: a line per network."""
    lines = []
    for title, neighbors in near.items():
        pictures = {i: labels is not None and bool(labels[i] != labels[query]) for i in neighbors[query].tolist()}
        count = "" if labels is None else f" {len(pictures) - sum(pictures.values())}/{len(pictures)}"
        lines.append({"title": title, "count": count, "pictures": pictures})
    return lines


class Sheet(NamedTuple):
    """All thumbnails of a sample in one picture, row by row (a CSS sprite).

    The name is a CSS class with a hash of the content, so that runs on the same images share the sheet.
    """

    name: str
    uri: str
    columns: int
    rows: int


def make_sheet(sample: ArrayData) -> Sheet:
    """Makes the thumbnail sheet of a sample."""
    side = min(_THUMBNAIL, max(sample.height, sample.width))
    small = torch.cat([_shrunk(sample.gather(some), side) for some in torch.arange(len(sample)).split(256)])
    columns = math.ceil(len(small) ** 0.5)
    uri = data_uri(make_grid(small, columns, padding=0)[: small.shape[1]], side <= _LOSSLESS)  # it repeats one channel
    rows = math.ceil(len(small) / columns)
    return Sheet(f"s{hashlib.sha256(uri.encode()).hexdigest()[:12]}", uri, columns, rows)


def data_uri(image: Tensor, lossless: bool | None = None) -> str:
    """Encodes a uint8 image (C, H, W) as a data URI: PNG if small or `lossless`, else JPEG."""
    picture = to_pil_image(_drawable(image))
    lossless = max(picture.size) <= _LOSSLESS if lossless is None else lossless
    kind = "png" if lossless else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, kind, **({"optimize": True} if lossless else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _shrunk(images: Tensor, side: int) -> Tensor:
    """Resizes images to (N, 1 or 3, side, side); images of that size are unchanged."""
    images = _drawable(images)
    if images.shape[-2:] == (side, side):
        return images
    shrunk = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return shrunk.round().clamp(0, 255).byte()


def _drawable(images: Tensor) -> Tensor:
    """Returns the first three channels, or the first channel if there are fewer."""
    return images[..., : 3 if images.shape[-3] >= 3 else 1, :, :]
