"""Classes of the images in shards: the files of the samples that hold them, and their contents."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import IO, Any

from ssl_lib.data.io.shard_names import sample_and_field, suggested_field
from ssl_lib.errors import DataError, listed

__all__ = ["NO_LABEL", "LabelFiles"]

NO_LABEL = b""
_NONE = "none"
_WORDS = {"cls", "class", "label", "target"}
_JSON = (".json", ".jsn")
_LONGEST, _LONGEST_JSON = 100, 2**20  # bytes


class LabelFiles:
    """Collects the files of a shard that hold classes, while its members are read in order.

    The class of `a.jpg` and of `a.image.jpg` is in `a.cls`, or in another field that ends with `cls` or is named cls,
    class, label or target, such as `a.label.cls` and `a.label.txt`; or in a value of such a name in `a.json`. A field
    whose last part is `cls` holds a class index, other fields a class index or a text.

    Args:
        shard: Name of the tar file in messages.
        label: The field with the classes, such as "label.txt", or "json:KEY" for a value in a JSON file; "none" reads
            no classes; None finds them.
    """

    def __init__(self, shard: str, label: str | None) -> None:
        self._shard, self._label = shard, label
        field, _, self._key = (label or "").partition(":")
        self._field = field.lower().removeprefix(".")
        self._values: dict[str, bytes] = {}
        self._has_indices = False  # whether a .cls file was found
        self._json_keys: Sequence[str] | None = None  # of a JSON file in which no value is a class

    def needs(self, name: str) -> bool:
        """Whether the content of this file, which is no image, may be a class."""
        parts = name.lower().rpartition("/")[2].split(".")[1:]
        if self._field:
            return self._field != _NONE and f".{'.'.join(parts)}".endswith(f".{self._field}")
        if parts and f".{parts[-1]}" in _JSON and not _WORDS & set(parts):
            return self._json_keys is None and not self._has_indices
        return bool(_WORDS & set(parts[-2:]))

    def add(self, name: str, content: IO[bytes]) -> None:
        """Adds the content of a file.

        Raises:
            DataError: It is not a class, or the name occurs twice.
        """
        where = f"{self._shard}:{name}"
        if name in self._values:
            raise DataError(f"{self._shard}: {name} occurs twice; give each sample a name of its own")
        if not name.lower().endswith(_JSON):
            index = name.lower().endswith(".cls")
            self._values[name] = _class_of(content.read(_LONGEST + 1), where, index)
            self._has_indices = self._has_indices or index
            return
        value = self._value_in(content.read(_LONGEST_JSON + 1), name, where)
        if value is not None:
            self._values[name] = _class_of(value, where, index=False)

    def of(self, images: Sequence[str], others: Sequence[str]) -> tuple[dict[str, bytes], str]:
        """Returns the class of each image as text, by name, and a message if classes may have been left out.

        Args:
            images: Names of the images.
            others: Names of the files that are no images.

        Raises:
            DataError: Several fields may hold the classes, the given field does not exist, or several images have one
                file with a class.
        """
        owners = {owner for name in images for owner in _owners(name)}
        found = defaultdict[str, dict[str, bytes]](dict)  # by field and owner
        for name, value in self._values.items():
            split = next((split for split in _splits(name) if split[0] in owners), None)
            if split is not None:
                found[split[1]][split[0]] = value
        field = self._choose(found, owners, others)
        if field is None:
            return {}, self._left_out(owners, others)
        classes, uses = {}, defaultdict[str, list[str]](list)
        for name in images:
            if own := [owner for owner in _owners(name) if owner in found[field]]:
                classes[name] = found[field][own[0]]
                uses[own[0]].append(name)
        if shared := next((owner for owner, names in uses.items() if len(names) > 1), None):
            fields = [sample_and_field(name)[1] for name in uses[shared]]
            raise DataError(
                f"{self._shard}: {shared}.{field} belongs to several images, {listed(uses[shared])}: choose one of "
                f"them with data.field={suggested_field(fields)}"
            )
        return classes, ""

    def _choose(self, found: dict[str, dict[str, bytes]], owners: set[str], others: Sequence[str]) -> str | None:
        """The field that holds the classes; None if there is none."""
        if self._field and self._field != _NONE:
            if owners and self._field not in found:
                known = f"the fields of its samples are {listed(_fields(owners, others)) or 'those of the images'}"
                known = f"the keys are {listed(self._json_keys)}" if self._json_keys else known
                raise DataError(f"{self._shard}: data.label={self._label} fits no sample with an image; {known}")
            return self._field if owners else None
        named = [field for field in found if f".{field}" not in _JSON]
        candidates = ["cls"] if "cls" in found else named or list(found)
        if len(candidates) > 1:
            raise DataError(
                f"{self._shard}: several fields may hold the classes ({listed(sorted(candidates))}): choose one with "
                f"data.label={candidates[0]}, or none with data.label=none"
            )
        return next(iter(candidates), None)

    def _left_out(self, owners: set[str], others: Sequence[str]) -> str:
        """Says which files of images without classes may hold them; empty if there are none or none are wanted."""
        fields = _fields(owners, others)
        if self._field == _NONE or not fields:
            return ""
        keys = f" (with {listed(self._json_keys)})" if self._json_keys else ""
        example = f"json:{self._json_keys[0]}" if self._json_keys else fields[0]
        return (
            f"{self._shard}: the images have no labels, because no field is named cls, label, class or target. If "
            f"{' or '.join(fields)}{keys} holds the classes, set data.label, such as data.label={example}; or set "
            "data.label=none"
        )

    def _value_in(self, text: bytes, name: str, where: str) -> Any:
        """The class in a JSON file; None if it has none. A file whose name is not that of a class may hold anything."""
        named = bool(self._field or _WORDS & set(sample_and_field(name)[1].split(".")))
        try:
            content = json.loads(text)
        except ValueError as error:
            if named:
                raise DataError(
                    f"{where} is not a JSON file of at most 1 MiB ({error}): repair it, or set data.label=none"
                ) from error
            content = {}
        if not isinstance(content, dict):
            if named:
                return content
            content = {}
        keys = [key for key in content if (key == self._key if self._key else key.lower() in _WORDS)]
        if len(keys) > 1:
            raise DataError(
                f"{where}: several keys may hold the class, {listed(keys)}: choose one with data.label=json:{keys[0]}"
            )
        if keys:
            return content[keys[0]]
        if self._json_keys is None:
            self._json_keys = [key for key, value in content.items() if isinstance(value, int | str)]
        return None


def _class_of(value: Any, where: str, index: bool) -> bytes:
    """Returns a class as text without spaces around it: an index from 0 as digits, or, unless `index`, one line."""
    if value is None:
        return NO_LABEL
    text = value.strip() if isinstance(value, bytes) else str(value).strip().encode()
    number = text.removeprefix(b"-").isdigit()
    if number and not 0 <= int(text) < 2**63:
        raise DataError(f"{where} must contain a class index in [0, 2**63), got {int(text)}")
    one_line = text.decode(errors="replace").isprintable() and 0 < len(text) <= _LONGEST
    known = isinstance(value, bytes | str) or (isinstance(value, int) and not isinstance(value, bool))
    if not known or not (number or (one_line and not index)):
        kind = "a class index" if index else f"a class: an index, or a text of one line and at most {_LONGEST} bytes"
        got = repr(text[:32]) if known else repr(value)[:80]
        raise DataError(f"{where} must contain {kind}, got {got}; data.label chooses another field, or none")
    return str(int(text)).encode() if number else text


def _owners(name: str) -> tuple[str, str]:
    """The names, without a field, of files that belong to an image: its own name without the ending, and its sample."""
    return os.path.splitext(name)[0], sample_and_field(name)[0]


def _splits(name: str) -> list[tuple[str, str]]:
    """All splits of a name at a dot of its last part, the shortest field first."""
    folder, slash, last = name.rpartition("/")
    parts = last.split(".")
    return [
        (folder + slash + ".".join(parts[:place]), ".".join(parts[place:]).lower())
        for place in range(len(parts) - 1, 0, -1)
    ]


def _fields(owners: set[str], others: Sequence[str]) -> list[str]:
    """The fields of the files that are no images and belong to an image, the most frequent first."""
    counts = Counter(next((field for owner, field in _splits(name) if owner in owners), None) for name in others)
    return [field for field, _ in counts.most_common() if field is not None]
