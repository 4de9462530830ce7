"""Sections made of pictures: neighbors, views and patch tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.pictures import Sheet, data_uri
from ssl_lib.report.run import Missing, Observed, Run, TokenMaps
from ssl_lib.report.sample import one_per_class
from ssl_lib.report.sections.common import captioned, class_name, missing, note, per_run, scrolling, section

__all__ = ["neighbors", "thumbnail", "tokens", "views"]

_QUERIES = 10
_PRIVATE = "Images were left out with --no-images."


def neighbors(runs: Sequence[Run], sheets: dict[str, Sheet]) -> Html:
    """Sample images and those nearest to them, by the trained weights: of one run beside random ones, or of several."""
    about = "For some images, the nearest others by cosine. A bar under a picture marks another class."
    seen = _observed(runs)
    body: list[Child] = [_shares(run.name if len(runs) > 1 else None, observed) for run, observed in seen]
    alike: dict[str, list[tuple[Run, Observed]]] = {}  # runs on the same images
    for run, observed in seen:
        if run.name in sheets:
            alike.setdefault(sheets[run.name].name, []).append((run, observed))
    for group in alike.values():
        sheet, observed = sheets[group[0][0].name], group[0][1]
        found = {run.name: each.neighbors["trained"] for run, each in group}
        if len(runs) == 1:
            found = {title: observed.neighbors[title] for title in ("trained", "random init")}
        queries = one_per_class(observed.sample.labels, len(observed.sample), _QUERIES)
        body.append(tag("ul", [_neighbor_row(observed, sheet, q, found) for q in queries], class_="neighbors"))
    if seen and not alike:
        body.append(note(_PRIVATE))
    return section("neighbors", "Nearest neighbors", about, missing(runs, "observed"), body)


def views(runs: Sequence[Run], private: bool) -> Html:
    """The augmentation that the network was trained to see through."""
    about = "What the network was told is the same: each image and the views made of it."
    panels = [(run, note(_PRIVATE) if private else _view_grid(o)) for run, o in _observed(runs)]
    return section(
        "views", "Augmentation", about, missing(runs, "observed"), tag("div", per_run(runs, panels), class_="beside")
    )


def tokens(runs: Sequence[Run], private: bool) -> Html:
    """Patch tokens as colors, and the attention; nothing where no backbone has any."""
    seen = _observed(runs)
    having = [(run, observed) for run, observed in seen if isinstance(observed.tokens, TokenMaps)]
    if not having:
        return Html()
    about = (
        "The three main directions of the patch tokens as red, green and blue: patches of like color are alike to "
        "the network. Parts of objects should come out, also across images. Bright in the attention is what the CLS "
        "token heeds in the last block: the object, where the network has learned to tell it from its surroundings."
    )
    panels = [(run, note(_PRIVATE) if private else _token_grid(o)) for run, o in having]
    return section(
        "tokens", "Patch tokens", about, missing(runs, "observed"), tag("div", per_run(runs, panels), class_="beside")
    )


def thumbnail(observed: Observed, sheet: Sheet, index: int, class_: str = "") -> Html:
    """One image of the sample, cut from its sheet."""
    style = f"background-position:{sheet.position(index)};background-size:{100 * sheet.columns}% {100 * sheet.rows}%"
    names = f"thumb {sheet.name} {class_}".strip()
    return tag("span", class_=names, style=style, role="img", aria_label=_named(observed, index))


def _observed(runs: Sequence[Run]) -> list[tuple[Run, Observed]]:
    return [(run, run.observed) for run in runs if isinstance(run.observed, Observed)]


def _shares(name: str | None, observed: Observed) -> Html | None:
    """How many of the neighbors are of the same class, in a sentence."""
    labels = observed.sample.labels
    shares = [
        f"{title} {100 * (labels[near] == labels.unsqueeze(1)).double().mean().item():.1f}\u00a0%"
        for title, near in observed.neighbors.items()
        if labels is not None and near.numel()
    ]
    if not shares:
        return None
    count = observed.neighbors["trained"].shape[1]
    of = f"{name}: of" if name else "Of"
    return tag("p", f"{of} the {count} nearest of all {observed.source}, the same class: {', '.join(shares)}.")


def _neighbor_row(observed: Observed, sheet: Sheet, query: int, found: Mapping[str, Tensor]) -> Html:
    """An image and, line by line, the neighbors that several networks find."""
    labels = observed.sample.labels
    lines: list[Child] = []
    for title, neighbors in found.items():
        near = neighbors[query].tolist()
        other = [labels is not None and int(labels[index]) != int(labels[query]) for index in near]
        pictures = [thumbnail(observed, sheet, i, "other" if o else "") for i, o in zip(near, other, strict=True)]
        count = "" if labels is None else f" {len(near) - sum(other)}/{len(near)}"
        lines.append(tag("div", tag("span", title, tag("b", count), class_="subject"), pictures, class_="near"))
    head = tag("div", thumbnail(observed, sheet, query, "query"), tag("span", _named(observed, query)), class_="asked")
    return tag("li", head, tag("div", lines))


def _named(observed: Observed, index: int) -> str:
    labels, names = observed.sample.labels, observed.sample.class_names
    if labels is None:
        return f"image {index}"
    return class_name(names, int(labels[index]))


def _view_grid(observed: Observed) -> Html:
    grid = observed.views
    if isinstance(grid, Missing):
        return note(grid.reason)
    rows = [
        [(original, f"image {n + 1}"), *((made[n], f"image {n + 1}, {name}") for name, made in grid.views.items())]
        for n, original in enumerate(grid.originals)
    ]
    return _grid("Training images, and their views as the network gets them.", grid.views.items(), rows)


def _token_grid(observed: Observed) -> Html:
    found = observed.tokens
    assert isinstance(found, TokenMaps)
    kinds = {"patch tokens": found.maps, "attention": found.attention}
    columns = [(f"{kind}, {title}", maps) for kind, made in kinds.items() for title, maps in made.items()]
    rows = []
    for place, index in enumerate(found.indices):
        name = _named(observed, index)
        pictures = [(maps[place], f"{name}: {title}") for title, maps in columns]
        rows.append([(observed.sample.read(index), name), *pictures])
    return _grid("Images of the sample, and what the network makes of their patches.", columns, rows)


def _grid(caption: str, columns: Iterable[tuple[str, object]], rows: Sequence[Sequence[tuple[Tensor, str]]]) -> Html:
    """Pictures and their names, an image and what was made of it in each row."""
    heads = tag("tr", [tag("th", head, scope="col") for head in ("image", *(name for name, _ in columns))])
    body = [tag("tr", [_cell(*picture) for picture in row]) for row in rows]
    whole = tag("table", captioned(caption), tag("thead", heads), tag("tbody", body))
    return scrolling(whole, "pictures", "pictures")


def _cell(image: Tensor, name: str) -> Html:
    return tag("td", tag("img", src=data_uri(image), alt=name, width=96, height=96))
