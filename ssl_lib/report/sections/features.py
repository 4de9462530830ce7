"""Sections on the features: their spectrum, and their map in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_lib.evaluation import effective_rank, explained_variance, rankme
from ssl_lib.report.charts import Series, line_chart
from ssl_lib.report.formats import class_name, format_number, run_style, style_of
from ssl_lib.report.projection import principal_components
from ssl_lib.report.records import Observed, Run, observed_runs
from ssl_lib.report.sections.images import Sheet

__all__ = ["embedding_map", "map_data", "singular_values", "spectrum"]

_FLOOR = 1e-6  # relative to the largest singular value; smaller ones are rounding errors
_WIDTH, _HEIGHT, _EDGE = 400, 330, 12
_COLORS, _SHAPES = 10, 5


def spectrum(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns a log-log chart of the singular values, and a table of effective ranks.

    The subjects are one run and its baselines, or the trained weights of several runs.
    """
    series, rows = list[Series](), list[list[str]]()
    for number, run, observed in observed_runs(runs):
        for subject, features in observed.features.items():
            if len(runs) == 1 or subject == "trained":
                title, style = (subject, style_of(subject)) if len(runs) == 1 else (run.name, run_style(number))
                kept = [value for value in singular_values(features).tolist() if value > _FLOOR]
                series.append(Series(title, range(1, len(kept) + 1), kept, style))
                ranks = f"{effective_rank(features):.1f}", f"{rankme(features):.1f}"
                rows.append([title, format_number(features.shape[1]), *ranks, observed.source])
    ranges = "; ".join(f"{title} of dimension {size}, effective rank {rank}" for title, size, rank, *_ in rows)
    chart = line_chart(series, label=f"Singular values: {ranges}", x_title="index", log_x=True, log_y=True)
    return {"series": series, "chart": chart, "rows": rows, "sources": list(dict.fromkeys(row[-1] for row in rows))}


def singular_values(features: Tensor) -> Tensor:
    """Returns descending singular values of centered features (N, D), the largest as 1; zeros if all rows are equal."""
    ratios = explained_variance(features)
    return (ratios / ratios[0].clamp_min(torch.finfo(ratios.dtype).tiny)).sqrt()


def embedding_map(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns a map per run, or for a single run one of trained and one of random weights, grouped by their classes."""
    groups: dict[tuple[tuple[int, str], ...], list[dict[str, Any]]] = {}
    for number, run, observed in observed_runs(runs):
        names = _names(observed)
        maps = groups.setdefault(tuple(names.items()), [])
        for subject in ["trained", "random init"] if len(runs) == 1 else ["trained"]:
            heading, classes = subject if len(runs) == 1 else run.name, _classes(observed, subject)
            texts = {"subject": subject, "heading": heading, "names": names}
            maps.append({"run": number, "of": observed, "classes": classes, **texts})
    sources = dict.fromkeys(observed.source for _, _, observed in observed_runs(runs))
    return {"groups": [*groups.values()], "sources": [*sources]}


def map_data(runs: Sequence[Run], sheets: Mapping[str, Sheet]) -> list[dict[str, Any] | None]:
    """Returns the data that the page's script needs, per run: classes, neighbors and thumbnail sheet."""
    data: list[dict[str, Any] | None] = [None] * len(runs)
    for number, run, observed in observed_runs(runs):
        labels, sheet = observed.sample.labels, sheets.get(run.name)
        data[number] = {
            "labels": None if labels is None else labels.tolist(),
            "names": _names(observed),
            "neighbors": {subject: observed.neighbors[subject].tolist() for subject in ("trained", "random init")},
            "sheet": None if sheet is None else [sheet.name, sheet.columns, sheet.rows],
        }
    return data


def _names(observed: Observed) -> dict[int, str]:
    labels, names = observed.sample.labels, observed.sample.class_names
    present = [] if labels is None else labels.unique().tolist()
    return {label: class_name(names, label) for label in present}


def _classes(observed: Observed, subject: str) -> list[tuple[Any, ...]]:
    """Returns label, shape, color and marks of each class; a mark has the index of its image and its position.

    The first 50 classes all look different, and classes of one color differ in shape.
    """
    places, labels = _scaled(observed.places[subject]).tolist(), observed.sample.labels
    marks: dict[int | None, list[tuple[int, float, float]]] = {label: [] for label in _names(observed)}
    for index, (x, y) in enumerate(places):
        marks.setdefault(None if labels is None else int(labels[index]), []).append((index, x, y))
    looks = [((place + place // _COLORS) % _SHAPES, place % _COLORS) for place in range(len(marks))]
    return [(label, *look, found) for look, (label, found) in zip(looks, marks.items(), strict=True)]


def _scaled(places: Tensor) -> Tensor:
    """Rotates the map to its widest axis and scales it to the frame; the outermost 0.5 % is clamped to the edges."""
    places = principal_components(places, 2)
    cut = 0.005 if len(places) >= 200 else 0.0
    low, high = places.quantile(cut, dim=0), places.quantile(1 - cut, dim=0)
    frame = torch.tensor([_WIDTH, _HEIGHT], dtype=places.dtype)
    scale = ((frame - 2 * _EDGE) / (high - low).clamp_min(1e-12)).min()
    scaled = (places - (low + high) / 2) * scale + frame / 2
    return torch.minimum(scaled.clamp_min(_EDGE), frame - _EDGE)
