"""What a run's weights make of images that it was not trained on, or of its own where there are no others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.config.resolve import BAD_ARGUMENTS
from ssl_lib.data import ImageData, preview
from ssl_lib.errors import ConfigError, SSLError
from ssl_lib.evaluation import RawPixels, bank_neighbors, extract_features
from ssl_lib.experiment.build import build_method, build_views
from ssl_lib.experiment.load import TrainedRun, load_run
from ssl_lib.report.projection import PROJECTIONS, project
from ssl_lib.report.run import Missing, Observed, ViewGrid
from ssl_lib.report.sample import draw_sample
from ssl_lib.report.tokens import token_maps
from ssl_lib.utils.precision import resolve_device
from ssl_lib.views import ViewPipeline
from ssl_lib.views.image_grid import pixels

__all__ = ["observe"]

_NEIGHBORS, _VIEWED = 5, 4
_DIVERGED = (
    "The trained weights turn {:,} of {:,} images into numbers that are not finite. An earlier checkpoint may be "
    "sound: `ssl-lib report RUN/checkpoints/FILE.pt`."
)


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
        sample, classes = draw_sample(data, run.preprocessing, run.config.trainer.workers)
    except (SSLError, OSError) as error:
        if overrides and isinstance(error, ConfigError):
            raise  # of the user's own line
        return Missing(f"The weights and images could not be looked at: {error}")
    except BAD_ARGUMENTS as error:  # the user's own parts, in a version other than that trained
        return Missing(f"The run could not be built again: {type(error).__name__}: {error}")
    encoders = {"random init": build_method(run.config).encoder.eval(), "trained": run.method.encoder}
    subjects = {"raw pixels": RawPixels(), **{title: encoder.to(device) for title, encoder in encoders.items()}}
    features = {title: extract_features(encoder, sample, title=title)[0] for title, encoder in subjects.items()}
    if broken := int((~features["trained"].isfinite()).any(1).sum()):
        return Missing(_DIVERGED.format(broken, len(sample)))
    features["raw pixels"] -= features["raw pixels"].mean(0)  # as the evaluation does
    return Observed(
        steps=run.steps,
        sample=sample,
        source=_source(len(sample), run, classes),
        features=features,
        places={title: project(found, projection) for title, found in features.items() if title != "raw pixels"},
        projection=PROJECTIONS[projection][0],
        neighbors={title: _neighbors(found) for title, found in features.items()},
        views=_views(train, pipeline, run.config.seed),
        tokens=token_maps({title: subjects[title] for title in encoders}, sample, device),
    )


def _source(count: int, run: TrainedRun, classes: int | None) -> str:
    kind = "test" if run.evaluator is not None else "training"
    return f"{count:,} {kind} images{f' of {classes} classes' if classes else ''}"


def _neighbors(features: Tensor) -> Tensor:
    """The images most similar to each by cosine, itself left out (N, k)."""
    count = min(_NEIGHBORS, len(features) - 1)
    if count < 1:
        return torch.zeros(len(features), 0, dtype=torch.int64)
    found = bank_neighbors(features, features, count + 1)[1]
    itself = found == torch.arange(len(features)).unsqueeze(1)
    itself[~itself.any(1), -1] = True  # copies of an image may crowd it out of its own neighbors
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
