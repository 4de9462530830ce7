"""The config, what in it is not the default, and where it ran."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ssl_lib.report.defaults import defaults_of, recipe_source
from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.run import Missing, Run
from ssl_lib.report.sections.common import missing, note, per_run, section, table
from ssl_lib.utils.yaml import flat

__all__ = ["environment", "settings"]

_NONE = "-"


def settings(runs: Sequence[Run]) -> Html:
    """Of several runs first what tells them apart; then, for each, what differs from the defaults, and all of it."""
    known = [(run, run.config) for run in runs if not isinstance(run.config, Missing)]
    panels = [(run, _one(dict(config))) for run, config in known]
    apart = _apart([(run.name, flat(config)) for run, config in known]) if len(known) > 1 else None
    about = "What was set by hand, beside the defaults of the method and its parts."
    return section("config", "Configuration", about, missing(runs, "config"), apart, per_run(runs, panels))


def environment(runs: Sequence[Run]) -> Html:
    """Versions, device, seed and commit."""
    rows: list[list[Child]] = []
    no_commit = {"commit": "none: the working directory was no git repository"}
    told = [({} if isinstance(run.environment, Missing) else {**no_commit, **run.environment}) for run in runs]
    for found, run in zip(told, runs, strict=True):
        seed = None if isinstance(run.config, Missing) else run.config.get("seed")
        found.update({"seed": seed, "folder": str(run.folder)})
    for key in dict.fromkeys(key for found in told for key in found):
        rows.append([key, *(_text(found.get(key)) if found.get(key) is not None else _NONE for found in told)])
    body = table("Where and with what the runs were trained.", ["what", *(run.name for run in runs)], rows)
    return section("environment", "Environment", None, missing(runs, "environment"), body)


def _one(config: dict[str, Any]) -> list[Child]:
    values, defaults = flat(config), defaults_of(config)
    changed = [
        [_key(key), _text(value), _text(defaults[key])]
        for key, value in values.items()
        if _differs(key, value, defaults)
    ]
    own = [[key, _text(value)] for key, value in values.items() if key not in defaults]
    source = recipe_source(config)
    parts: list[Child] = [tag("p", f"The method's defaults follow {source}.")] if source else []
    if changed:
        count = f"{len(changed)} {'setting differs' if len(changed) == 1 else 'settings differ'} from the defaults."
        parts.append(table(count, ["setting", "here", "default"], changed, "changed"))
    else:
        parts.append(note("Every setting that has a default is at it."))
    rows = [[tag("span", _key(key), class_="mark") if _differs(key, value, defaults) else _key(key), _text(value)]
            for key, value in values.items()]  # fmt: skip
    caption = f"All settings; {len(own)} have no default. Marked ones differ from theirs."
    parts.append(tag("details", tag("summary", "The whole config"), table(caption, ["setting", "value"], rows)))
    return parts


def _differs(key: str, value: Any, defaults: dict[str, Any]) -> bool:
    return key in defaults and _text(value) != _text(defaults[key])


def _apart(known: Sequence[tuple[str, dict[str, Any]]]) -> list[Child]:
    """The keys whose values are not the same in all runs, and out of the way those that only some of them have."""
    shared, own = list[list[Child]](), list[list[Child]]()
    for key in dict.fromkeys(key for _, values in known for key in values):
        texts = [_text(values[key]) if key in values else _NONE for _, values in known]
        if all(key in values for _, values in known):
            shared += [[_key(key), *texts]] if len(set(texts)) > 1 and key != "run_dir" else []
        else:
            own.append([_key(key), *texts])
    head = ["setting", *(name for name, _ in known)]
    first = table("What tells the runs apart.", head, shared, "apart") if shared else note("The runs' settings agree.")
    if not own:
        return [first]
    count = f"{len(own)} settings that only some of the runs have"
    return [first, tag("details", tag("summary", count), table(f"{count}.", head, own, "apart"))]


def _key(key: str) -> list[Child]:
    """A dotted key that may break behind its dots and underscores."""
    parts = re.split(r"(?<=[._])", key)
    return [parts[0], *([tag("wbr"), part] for part in parts[1:])]


def _text(value: Any) -> str:
    """A value as in YAML, a number in one way whichever its type."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(value, default=str, ensure_ascii=False)
