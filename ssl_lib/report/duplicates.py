"""A page that shows groups of near-duplicates with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from ssl_lib.report.page import render_template
from ssl_lib.version import __version__
from ssl_lib.views.image_grid import CELL, thumbnail

__all__ = ["Group", "Member", "duplicates_page"]


class Member(NamedTuple):
    """An image of a group.

    Attributes:
        image: uint8 (C, H, W).
        path: Path of the image in the table.
        label: Class name; empty if there is none.
        relation: How it relates to the image that is kept, such as its cosine.
    """

    image: Tensor
    path: str
    label: str
    relation: str


class Group(NamedTuple):
    """A group of near-duplicates: its first images, the image to keep first, and the number of all its images."""

    members: Sequence[Member]
    size: int


def duplicates_page(groups: Sequence[Group], summary: Sequence[str]) -> str:
    """Renders a self-contained HTML page, which makes no network requests and runs no scripts.

    Args:
        groups: The groups in the order of the page.
        summary: Sentences on top of the page.
    """
    shown = [
        {"size": group.size, "members": [(member, _small(member.image)) for member in group.members]}
        for group in groups
    ]
    style = (resources.files("ssl_lib.report") / "assets" / "style.css").read_text("utf-8")
    return str(render_template("duplicates", groups=shown, summary=summary, style=style, version=__version__))


def _small(image: Tensor) -> Tensor:
    small: Tensor = pil_to_tensor(thumbnail(image, CELL))
    return small
