"""The spectrum of the features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.evaluation import effective_rank, explained_variance, rankme
from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import shown
from ssl_lib.report.run import Observed, Run
from ssl_lib.report.sections.common import legend, missing, run_style, section, style_of, table
from ssl_lib.report.svg import Series, line_chart

__all__ = ["singular_values", "spectrum", "unseen"]

_FLOOR = 1e-6  # of the largest; below lie rounding errors


def spectrum(runs: Sequence[Run]) -> Html:
    """Singular values of the centerd features, on logarithmic axes, and what they sum up to."""
    curves, rows = _subjects(runs), list[list[Child]]()
    sources = [run.observed.source for run in runs if isinstance(run.observed, Observed)]
    same = len(set(sources)) < 2
    series = []
    for place, (title, style, features) in enumerate(curves):
        values = singular_values(features)
        kept = values[values > _FLOOR]
        series.append(Series(title, range(1, len(kept) + 1), kept.tolist(), style))
        width, rank, me = features.shape[1], effective_rank(features), rankme(features)
        rows.append([title, shown(width), f"{rank:.1f}", f"{me:.1f}", *([] if same else [sources[place]])])
    about = (
        "Singular values of the centerd features, the largest as 1. A curve that drops early uses few of its "
        "directions (dimensional collapse); a flat one uses many."
    )
    body: list[Child] = []
    if curves:
        label = "Singular values: " + "; ".join(f"{r[0]} of width {r[1]}, effective rank {r[2]}" for r in rows)
        chart = line_chart(series, label=label, x_title="index", log_x=True, log_y=True)
        caption = tag("figcaption", legend((title, style) for title, style, _ in curves), tag("output"))
        head = ["features", "width", "effective rank", "RankMe", *([] if same else ["over"])]
        numbers = table(f"Directions in use, over {sources[0]}." if same else "Directions in use.", head, rows)
        body = [tag("div", tag("figure", caption, chart), numbers, class_="pair")]
    return section("spectrum", "Spectrum of the features", about, missing(runs, "observed"), body)


def unseen(runs: Sequence[Run]) -> Html:
    """In the place of all that is made from weights and images, where there are none."""
    about = "The spectrum, the map, neighbors, views and patch tokens are made from the weights and images."
    return section("features", "Features and images", about, missing(runs, "observed"))


def singular_values(features: Tensor) -> Tensor:
    """Of the centerd features (N, D), falling, the largest as 1; zeros where all features are alike."""
    shares = explained_variance(features)
    return (shares / shares[0].clamp_min(torch.finfo(shares.dtype).tiny)).sqrt()


def _subjects(runs: Sequence[Run]) -> list[tuple[str, str, Tensor]]:
    """Title, style and features: of one run with the baselines, of several the trained ones."""
    seen = [(number, run, run.observed) for number, run in enumerate(runs) if isinstance(run.observed, Observed)]
    if len(runs) == 1:
        return [(title, style_of(title), found) for _, _, o in seen for title, found in o.features.items()]
    return [(run.name, run_style(number), observed.features["trained"]) for number, run, observed in seen]
