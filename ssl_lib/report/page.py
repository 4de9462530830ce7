"""The sections as one HTML file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from string import Template

from ssl_lib.report.html import Html, data_script, join, tag
from ssl_lib.report.pictures import Sheet, make_sheet
from ssl_lib.report.run import Observed, Run
from ssl_lib.report.sections.evaluation import evaluation
from ssl_lib.report.sections.features import spectrum, unseen
from ssl_lib.report.sections.images import neighbors, tokens, views
from ssl_lib.report.sections.map import embedding_map, map_data
from ssl_lib.report.sections.overview import header, headline, overview
from ssl_lib.report.sections.settings import environment, settings
from ssl_lib.report.sections.training import training
from ssl_lib.version import __version__

__all__ = ["render"]

_CONTENTS = {
    "evaluation": "Evaluation",
    "training": "Training",
    "features": "Features",
    "spectrum": "Spectrum",
    "map": "Map",
    "neighbors": "Neighbors",
    "views": "Views",
    "tokens": "Tokens",
    "config": "Config",
    "environment": "Environment",
}


def render(runs: Sequence[Run], *, images: bool = True) -> str:
    """The page of one run, or of several side by side.

    Args:
        runs: At least one, of different names.
        images: Whether any picture may be shown; maps and figures are there without.
    """
    assets = resources.files("ssl_lib.report") / "assets"
    page, style, script = ((assets / name).read_text("utf-8") for name in ("page.html", "style.css", "script.js"))
    seen = {run.name: run.observed for run in runs if isinstance(run.observed, Observed)}
    sheets = {name: make_sheet(observed.sample) for name, observed in seen.items()} if images else {}
    sections = {
        "evaluation": evaluation(runs),
        "training": training(runs),
        **(_looked_at(runs, sheets, images) if seen else {"features": unseen(runs)}),
        "config": settings(runs),
        "environment": environment(runs),
    }
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, title in _CONTENTS.items() if sections.get(key)]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(page).substitute(
        title=join(f"{headline(runs).headline} · {', '.join(run.name for run in runs)}"),
        digest=digest,
        style=style + _sheet_rules(sheets),
        header=header(runs),
        contents=tag("nav", tag("ul", links), aria_label="contents"),
        sections=Html("\n".join([overview(runs), *filter(None, sections.values())])),
        version=join(__version__),
        data=data_script("map-data", map_data(runs, sheets)),
        script=script,
    )


def _looked_at(runs: Sequence[Run], sheets: dict[str, Sheet], images: bool) -> dict[str, Html]:
    """The sections made from weights and images, empty where there is nothing that they could show."""
    return {
        "spectrum": spectrum(runs),
        "map": embedding_map(runs, not images),
        "neighbors": neighbors(runs, sheets),
        "views": views(runs, not images),
        "tokens": tokens(runs, not images),
    }


def _sheet_rules(sheets: dict[str, Sheet]) -> str:
    known = {sheet.name: sheet for sheet in sheets.values()}
    return "".join(f".{name}{{background-image:url({sheet.uri})}}\n" for name, sheet in known.items())
