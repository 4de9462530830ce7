"""Markup whose texts are escaped unless they are markup already."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Child", "Html", "data_script", "join", "tag"]

_VOID = {"br", "col", "img", "meta", "use", "wbr"}


class Html(str):
    """Markup that is safe as it stands; any other text is escaped where it is put into markup."""

    __slots__ = ()


Child: TypeAlias = str | int | float | Iterable["Child"] | None
"""What markup may hold: markup, text, numbers, nothing, or several of these."""


def tag(name: str, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element. `class_` is the attribute class, `aria_label` is aria-label; None and False leave one out."""
    written = [_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False]
    start = " ".join([name, *written])
    if name in _VOID and not children:
        return Html(f"<{start}>" if name != "use" else f"<{start}/>")
    return Html(f"<{start}>{join(children)}</{name}>")


def join(children: Child, between: str = "") -> Html:
    """Several children as one piece of markup."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int | float):
        return Html(html.escape(str(children)))
    return Html(html.escape(between).join(join(child) for child in children))


def data_script(identity: str, value: object) -> Html:
    """A script element of JSON, which no text inside can end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Html(text), type="application/json", id=identity)


def _attribute(key: str, value: str | int | float | bool) -> str:
    key = key.rstrip("_").replace("_", "-")
    return key if value is True else f'{key}="{html.escape(str(value))}"'
