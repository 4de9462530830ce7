"""Sections made of pictures: neighbours, views and patch tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.pictures import Sheet, data_uri
from ssl_lib.report.run import Missing, Observed, Run
from ssl_lib.report.sections.common import missing, note, per_run, section

__all__ = ["neighbours", "thumbnail", "tokens", "views"]

_QUERIES = 10
_PRIVATE = "Images were left out with --no-images."


def neighbours(runs: Sequence[Run], sheets: dict[str, Sheet]) -> Html:
    """Sample images and those nearest to them, by the trained weights beside random ones."""
    about = "For some images, the nearest others by cosine. A bar under a picture marks another class."
    panels = [(run, _neighbour_rows(o, sheets.get(run.name))) for run, o in _observed(runs)]
    return section("neighbours", "Nearest neighbours", about, missing(runs, "observed"), per_run(runs, panels))


def views(runs: Sequence[Run], private: bool) -> Html:
    """The augmentation that the network was trained to see through."""
    about = "What the network was told is the same: each image and the views made of it."
    panels = [(run, note(_PRIVATE) if private else _view_grid(o)) for run, o in _observed(runs)]
    return section("views", "Augmentation", about, missing(runs, "observed"), per_run(runs, panels))


def tokens(runs: Sequence[Run], private: bool) -> Html:
    """Patch tokens as colours."""
    about = (
        "The three main directions of the patch tokens as red, green and blue: patches of like colour are alike to "
        "the network. Parts of objects should come out, also across images."
    )
    panels = [(run, note(_PRIVATE) if private else _token_grid(o)) for run, o in _observed(runs)]
    return section("tokens", "Patch tokens", about, missing(runs, "observed"), per_run(runs, panels))


def thumbnail(observed: Observed, sheet: Sheet, index: int, class_: str = "") -> Html:
    """One image of the sample, cut from its sheet."""
    style = f"background-position:{sheet.position(index)};background-size:{100 * sheet.columns}% {100 * sheet.rows}%"
    names = f"thumb {sheet.name} {class_}".strip()
    return tag("span", class_=names, style=style, role="img", aria_label=_named(observed, index))


def _observed(runs: Sequence[Run]) -> list[tuple[Run, Observed]]:
    return [(run, run.observed) for run in runs if isinstance(run.observed, Observed)]


def _neighbour_rows(observed: Observed, sheet: Sheet | None) -> list[Html]:
    labels, found = observed.sample.labels, observed.neighbours
    shares = []
    if labels is not None:
        for title, near in found.items():
            if near.numel():
                same = (labels[near] == labels.unsqueeze(1)).double().mean().item()
                shares.append(f"{title} {100 * same:.1f} %")
    body = []
    if shares:
        text = f"Of the {found['trained'].shape[1]} nearest of all {observed.source}, the same class: "
        body.append(tag("p", text, ", ".join(shares), "."))
    if sheet is None:
        return [*body, note(_PRIVATE)]
    queries = _queries(labels, len(observed.sample))
    return [*body, tag("ul", [_neighbour_row(observed, sheet, query) for query in queries], class_="neighbours")]


def _neighbour_row(observed: Observed, sheet: Sheet, query: int) -> Html:
    labels = observed.sample.labels
    lines: list[Child] = []
    for title in ("trained", "random init"):
        near = observed.neighbours[title][query].tolist()
        other = [labels is not None and int(labels[index]) != int(labels[query]) for index in near]
        pictures = [thumbnail(observed, sheet, i, "other" if o else "") for i, o in zip(near, other, strict=True)]
        count = "" if labels is None else f" {len(near) - sum(other)}/{len(near)}"
        lines.append(tag("div", tag("span", title, tag("b", count), class_="subject"), pictures, class_="near"))
    head = tag("div", thumbnail(observed, sheet, query, "query"), tag("span", _named(observed, query)), class_="asked")
    return tag("li", head, tag("div", lines))


def _queries(labels: Tensor | None, count: int) -> list[int]:
    """An image of each class, or evenly spaced ones."""
    if labels is None:
        most = min(_QUERIES, count)
        return [index * count // most for index in range(most)]
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:_QUERIES]]


def _named(observed: Observed, index: int) -> str:
    labels, names = observed.sample.labels, observed.sample.class_names
    if labels is None:
        return f"image {index}"
    label = int(labels[index])
    return names[label] if label < len(names) else f"class {label}"


def _view_grid(observed: Observed) -> Html:
    grid = observed.views
    if isinstance(grid, Missing):
        return note(grid.reason)
    head = tag("tr", tag("th", "image", scope="col"), [tag("th", name, scope="col") for name in grid.views])
    rows = []
    for number, original in enumerate(grid.originals):
        cells = [_cell(original, f"image {number + 1}")]
        cells += [_cell(made[number], f"image {number + 1}, {name}") for name, made in grid.views.items()]
        rows.append(tag("tr", cells))
    body = tag(
        "table",
        tag("caption", "Training images, and their views as the network gets them."),
        tag("thead", head),
        tag("tbody", rows),
    )
    return tag("div", body, class_="wide pictures", tabindex=0, role="group", aria_label="views, may scroll sideways")


def _token_grid(observed: Observed) -> Html:
    found = observed.tokens
    if isinstance(found, Missing):
        return note(found.reason)
    head = tag("tr", tag("th", "image", scope="col"), [tag("th", title, scope="col") for title in found.maps])
    rows = []
    for place, index in enumerate(found.indices):
        name = _named(observed, index)
        cells = [_cell(observed.sample.read(index), name)]
        cells += [_cell(maps[place], f"{name}: patch tokens, {title}") for title, maps in found.maps.items()]
        rows.append(tag("tr", cells))
    body = tag(
        "table", tag("caption", "Images of the sample, and their patch tokens."), tag("thead", head), tag("tbody", rows)
    )
    return tag("div", body, class_="wide pictures", tabindex=0, role="group", aria_label="tokens, may scroll sideways")


def _cell(image: Tensor, name: str) -> Html:
    return tag("td", tag("img", src=data_uri(image), alt=name, width=96, height=96))
