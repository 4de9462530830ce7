"""Names of files in shards, as in WebDataset: the sample up to the first dot, and the field behind it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["sample_and_field", "suggested_field"]

_PICTURES = {"image", "img", "picture", "photo", "rgb"}
_OTHERS = {"mask", "seg", "segmentation", "label", "annotation", "depth", "alpha", "target", "gt", "thumb", "thumbnail"}


def sample_and_field(name: str) -> tuple[str, str]:
    """Splits the name of a file at the first dot of its last part: "a/b.c.JPG" gives ("a/b", "c.jpg")."""
    folder, slash, last = name.rpartition("/")
    stem, _, field = last.partition(".")
    return folder + slash + stem, field.lower()


def suggested_field(fields: Sequence[str]) -> str:
    """The field that has the pictures by its name, unlike masks; several, joined by "or", if the names do not tell."""
    parts = {field: set(field.split(".")) for field in fields}
    plain = [field for field in parts if not parts[field] & _OTHERS]
    named = [field for field in plain if parts[field] & _PICTURES]
    return " or ".join(named or plain or parts)
