"""Renders the report's sections into one self-contained HTML page that makes no network requests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ssl_lib.report.formats import format_metric, format_number, style_of
from ssl_lib.report.records import Missing, Run, image_title, observed_runs
from ssl_lib.report.sections.evaluation import evaluation
from ssl_lib.report.sections.features import embedding_map, map_data, spectrum
from ssl_lib.report.sections.images import data_uri, make_sheet, neighbors
from ssl_lib.report.sections.overview import overview
from ssl_lib.report.sections.settings import environment, settings
from ssl_lib.report.sections.training import training
from ssl_lib.utils.printable import visible
from ssl_lib.version import __version__

__all__ = ["render", "render_template"]


def render(runs: Sequence[Run], *, images: bool = True) -> str:
    """Renders the HTML page of one run, or of several runs side by side.

    Args:
        runs: One or more runs with unique names.
        images: Whether the page includes pictures. Maps and metrics are included in any case.
    """
    observed = observed_runs(runs)
    sheets = {run.name: make_sheet(each.sample) for _, run, each in observed} if images else {}
    sections = {"overview": overview(runs), "evaluation": evaluation(runs), "training": training(runs)}
    if observed:
        sections |= {"spectrum": spectrum(runs), "map": embedding_map(runs), "neighbors": neighbors(runs, sheets)}
        tokens = any(not isinstance(each.tokens, Missing) for _, _, each in observed)
        sections |= {"views": {}, "tokens": {}} if tokens else {"views": {}}
    else:
        sections["features"] = {}
    sections |= {"config": settings(runs), "environment": environment(runs)}
    common = {"runs": runs, "images": images}
    assets = resources.files("ssl_lib.report") / "assets"
    style, script = ((assets / name).read_text("utf-8") for name in ("style.css", "script.js"))
    return render_template(
        "page",
        **common,
        **sections["overview"],
        sections={name: render_template(name, **common, **content) for name, content in sections.items()},
        style=style,
        sheets=dict.fromkeys(sheets.values()),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=map_data(runs, sheets),
        version=__version__,
    )


def render_template(name: str, **variables: Any) -> Markup:
    """Renders a file in `templates` with its variables; a missing variable raises an error."""
    return Markup(_templates().get_template(f"{name}.html.jinja").render(variables))


@cache
def _templates() -> Environment:
    """Returns the environment of all templates, which escapes texts and makes unusual characters visible."""
    made = Environment(
        loader=PackageLoader("ssl_lib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"data_uri": data_uri, "image_title": image_title, "style_of": style_of}
    made.filters |= {"metric": format_metric, "number": format_number}
    made.tests["missing"] = lambda part: isinstance(part, Missing)
    made.policies["json.dumps_function"] = lambda value, **options: json.dumps(visible(value), **options)
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "ensure_ascii": False}
    return made
