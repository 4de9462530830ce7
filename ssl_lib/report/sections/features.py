"""Sections on the features: their spectrum, and their map in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_lib.evaluation import effective_rank, explained_variance, rankme
from ssl_lib.report.charts import Series, make_chart
from ssl_lib.report.formats import class_name, format_number, run_style, style_of
from ssl_lib.report.projection import principal_components
from ssl_lib.report.records import Observed, Run, observed_runs
from ssl_lib.report.sections.images import Sheet

__all__ = ["embedding_map", "map_data", "singular_values", "spectrum"]

_FLOOR = 1e-6  # relative to the largest singular value; smaller ones are rounding errors
_WIDTH, _HEIGHT, _EDGE = 400, 330, 12
_COLORS, _SHAPES = 10, 5


def spectrum(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns a chart of singular values and a table of effective ranks, of a run and baselines or of several runs."""
    series, rows = list[Series](), list[list[str]]()
    for number, run, observed in observed_runs(runs):
        for subject, features in observed.features.items():
            if len(runs) == 1 or subject == "trained":
                title, style = (subject, style_of(subject)) if len(runs) == 1 else (run.name, run_style(number))
                kept = [value for value in singular_values(features).tolist() if value > _FLOOR]
                series.append(Series(title, range(1, len(kept) + 1), kept, style))
                ranks = f"{effective_rank(features):.1f}", f"{rankme(features):.1f}"
                rows.append([title, format_number(features.shape[1]), *ranks, observed.source])
    chart = make_chart("singular values", series, x_title="index", log="xy")
    return {"chart": chart, "rows": rows, "sources": list(dict.fromkeys(row[-1] for row in rows))}


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


def map_data(runs: Sequence[Run], sheets: Mapping[str, Sheet]) -> dict[int, dict[str, Any]]:
    """Returns the data that the page's script needs, by run: classes, neighbors and thumbnail sheet."""
    return {
        number: {
            "labels": None if observed.sample.labels is None else observed.sample.labels.tolist(),
            "names": _names(observed),
            "neighbors": {subject: observed.neighbors[subject].tolist() for subject in ("trained", "random init")},
            "sheet": [sheets[run.name].name, sheets[run.name].columns] if sheets else None,
        }
        for number, run, observed in observed_runs(runs)
    }


def _names(observed: Observed) -> dict[int, str]:
    labels, names = observed.sample.labels, observed.sample.class_names
    present = [] if labels is None else labels.unique().tolist()
    return {label: class_name(names, label) for label in present}


def _classes(observed: Observed, subject: str) -> list[tuple[Any, ...]]:
    """Returns label, shape, color and marks of each class; a mark has the index of its image and its position.

    The first 50 classes all look different, and classes of one color differ in shape.
    """
    labels = observed.sample.labels
    marks = [(index, x, y) for index, (x, y) in enumerate(_scaled(observed.places[subject]).tolist())]
    if labels is None:
        return [(None, 0, 0, marks)]
    classes = []
    for place, label in enumerate(_names(observed)):
        own = [marks[index] for index in (labels == label).nonzero().flatten().tolist()]
        classes.append((label, (place + place // _COLORS) % _SHAPES, place % _COLORS, own))
    return classes


def _scaled(places: Tensor) -> Tensor:
    """Rotates the map to its widest axis and scales it to the frame; the outermost 0.5 % is clamped to the edges."""
    places = principal_components(places, 2)
    cut = 0.005 if len(places) >= 200 else 0.0
    low, high = places.quantile(cut, dim=0), places.quantile(1 - cut, dim=0)
    frame = torch.tensor([_WIDTH, _HEIGHT], dtype=places.dtype)
    scale = ((frame - 2 * _EDGE) / (high - low).clamp_min(1e-12)).min()
    scaled = (places - (low + high) / 2) * scale + frame / 2
    return torch.minimum(scaled.clamp_min(_EDGE), frame - _EDGE)
