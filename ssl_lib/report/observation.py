"""What a run's weights make of images that it was not trained on, or of its own where there are no others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lib.build import build_method, build_views
from ssl_lib.data import ImageData, evaluation_batches, preview
from ssl_lib.data.arrays import ArrayData
from ssl_lib.errors import DataError, SSLError
from ssl_lib.evaluation import RawPixels, bank_neighbours, extract_features
from ssl_lib.precision import resolve_device
from ssl_lib.preprocessing import Preprocessing
from ssl_lib.report.projection import PROJECTIONS, principal_components, project
from ssl_lib.report.run import Missing, Observed, TokenMaps, ViewGrid
from ssl_lib.resolve import BAD_ARGUMENTS
from ssl_lib.runs import TrainedRun, load_run
from ssl_lib.views import ViewPipeline
from ssl_lib.views.functional import normalize
from ssl_lib.views.picture import pixels

__all__ = ["observe"]

_IMAGES, _CLASSES, _NEIGHBOURS, _VIEWED, _TOKENS = 1000, 20, 5, 4, 6


def observe(checkpoint: str, overrides: Sequence[str], projection: str) -> Observed | Missing:
    """Looks at a sample of images with the trained weights, random weights and the pixels themselves.

    Args:
        checkpoint: A run's folder or a checkpoint file.
        overrides: As for `load_run`, such as another `data.root`.
        projection: A name in `PROJECTIONS`.

    Returns:
        What was seen, or why nothing could be.
    """
    try:
        run = load_run(checkpoint, overrides)
        train, pipeline = build_views(run.config)
        device = resolve_device(run.config.trainer.device)
        data = train if run.evaluator is None else run.evaluator.queries
        sample, classes = _draw(data, run.preprocessing, run.config.trainer.workers)
    except (SSLError, OSError) as error:
        return Missing(f"The weights and images could not be looked at: {error}")
    except BAD_ARGUMENTS as error:  # the user's own parts, in a version other than that trained
        return Missing(f"The run could not be built again: {type(error).__name__}: {error}")
    encoders = {"random init": build_method(run.config).encoder.eval(), "trained": run.method.encoder}
    subjects = {"raw pixels": RawPixels(), **{title: encoder.to(device) for title, encoder in encoders.items()}}
    features = {title: extract_features(encoder, sample, title=title)[0] for title, encoder in subjects.items()}
    mean = features["raw pixels"].mean(0)
    features["raw pixels"] = features["raw pixels"] - mean  # as the evaluation does
    return Observed(
        steps=run.steps,
        sample=sample,
        source=_source(len(sample), run, classes),
        features=features,
        places={title: project(found, projection) for title, found in features.items() if title != "raw pixels"},
        projection=PROJECTIONS[projection][0],
        neighbours={title: _neighbours(found) for title, found in features.items()},
        views=_views(train, pipeline, run.config.seed),
        tokens=_tokens({title: subjects[title] for title in encoders}, sample, device),
    )


def _draw(data: ImageData, shown: Preprocessing, workers: int | None) -> tuple[ArrayData, int | None]:
    """A sample in memory, always the same; of data with many classes it is of some, whose number is told."""
    generator = torch.Generator().manual_seed(0)
    chosen, limit = torch.randperm(len(data), generator=generator), None
    if data.labels is not None:
        classes = data.labels.unique()
        if len(classes) > _CLASSES:
            limit = _CLASSES
            some = classes[torch.randperm(len(classes), generator=generator)[:limit]]
            chosen = chosen[torch.isin(data.labels[chosen], some)]
    places = chosen[:_IMAGES].sort().values
    batches = list(evaluation_batches(data, 256, shown.size, workers, places, shown.resize))
    if not batches:
        raise DataError("no image can be read")
    images = torch.cat([batch.images for batch in batches if isinstance(batch.images, Tensor)])
    labels = None if data.labels is None else data.labels[torch.cat([batch.indices for batch in batches])]
    return ArrayData(images, labels, data.class_names, data.mean, data.std), limit


def _source(count: int, run: TrainedRun, classes: int | None) -> str:
    kind = "test" if run.evaluator is not None else "training"
    return f"{count:,} {kind} images{f' of {classes} classes' if classes else ''}"


def _neighbours(features: Tensor) -> Tensor:
    """The images most similar to each by cosine, itself left out (N, k)."""
    count = min(_NEIGHBOURS, len(features) - 1)
    if count < 1:
        return torch.zeros(len(features), 0, dtype=torch.int64)
    found = bank_neighbours(features, features, count + 1)[1]
    itself = found == torch.arange(len(features)).unsqueeze(1)
    itself[~itself.any(1), -1] = True  # copies of an image may crowd it out of its own neighbours
    return found[~itself].view(len(features), count)


def _views(train: ImageData, pipeline: ViewPipeline, seed: int) -> ViewGrid | Missing:
    try:
        originals, made = preview(train, pipeline, min(_VIEWED, len(train)), seed)
    except SSLError as error:
        return Missing(f"The views could not be drawn: {error}")
    named = [("large", made.large), ("small", made.small)]
    views = {
        f"{kind} {number}": list(pixels(view, train.mean, train.std))
        for kind, group in named
        for number, view in enumerate(group, start=1)
    }
    return ViewGrid(originals, views)


@torch.no_grad()
def _tokens(encoders: dict[str, nn.Module], sample: ArrayData, device: torch.device) -> TokenMaps | Missing:
    """The three main directions of the patch tokens as red, green and blue, jointly over the images shown."""
    if not all(callable(getattr(encoder, "tokens", None)) for encoder in encoders.values()):
        return Missing("The backbone has no patch tokens: there are maps for this library's vision transformers.")
    indices = _one_per_class(sample.labels, len(sample), _TOKENS)
    images = normalize(sample.gather(torch.tensor(indices)).to(device).float() / 255, sample.mean, sample.std)
    maps = {}
    for title, encoder in encoders.items():
        tokens = encoder.tokens(images)[1].float().cpu()  # type: ignore[operator]
        side = int(tokens.shape[1] ** 0.5)  # evaluation images are square
        colours = principal_components(tokens.flatten(0, 1), 3)
        low, high = colours.quantile(0.02, dim=0), colours.quantile(0.98, dim=0)
        colours = ((colours - low) / (high - low).clamp_min(1e-12)).clamp(0, 1).mul(255).round().byte()
        maps[title] = colours.view(len(indices), side, side, 3).permute(0, 3, 1, 2)
    return TokenMaps(indices, maps)


def _one_per_class(labels: Tensor | None, count: int, most: int) -> list[int]:
    """The first image of each class, or evenly spaced ones."""
    if labels is None:
        most = min(most, count)
        return [index * count // most for index in range(most)]
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:most]]
