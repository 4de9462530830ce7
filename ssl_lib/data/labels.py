"""Labels: any class values become dense class indices, and the classes of two data sets are matched by name."""

from __future__ import annotations

import copy
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, warn
from ssl_lib.errors import DataError, listed

__all__ = ["class_labels", "hold_out_indices", "matched", "names_of"]

_EXACT = 2**53  # larger floating-point numbers are rounded


def class_labels(values: Any, names: Sequence[object] = ()) -> tuple[Tensor, tuple[str, ...]]:
    """Converts the classes of images to class indices, so that their range follows the number of classes.

    Texts become indices of `names`, if they are given, and indices of `names` stay as they are. So do other integers,
    unless the largest is at least 4 times the number of classes that occur plus 100. Such integers, and texts without
    `names`, become indices of their sorted values, which become the names.

    Args:
        values: One class per image: integers, booleans, whole floating-point numbers, or texts.
        names: Names of the classes in the order of their indices; empty if they are not known.

    Returns:
        int64 (N,), and the names; empty for integers without names.

    Raises:
        ValueError: The values are not one class per image, an index is negative or not below the number of names, or a
            text is none of the names.
    """
    array, given = _plain(values), tuple(map(str, names))
    found, labels = np.unique(array, return_inverse=True)
    highest = int(found[-1]) if len(found) and array.dtype.kind != "U" else -1
    if array.dtype.kind != "U" and len(found) and int(found[0]) < 0:
        raise ValueError(f"labels must not be negative, got {int(found[0])}: use images with labels")
    if array.dtype.kind == "U" and given:
        places = {name: place for place, name in enumerate(given)}
        if unknown := [text for text in found.tolist() if text not in places]:
            raise ValueError(f"the label {unknown[0]!r} is none of the classes {listed(given, 8)}")
        labels = np.array([places[text] for text in found.tolist()])[labels.reshape(-1)]
    elif array.dtype.kind == "U":
        given = tuple(found.tolist())
    elif given:
        if highest >= len(given):
            raise ValueError(f"labels must be below the number of classes, {len(given)}, got up to {highest}")
        labels = array
    elif highest < 4 * len(found) + 100:  # a part of the classes may be missing
        labels = array
    else:
        given = tuple(str(int(value)) for value in found)
        warn(
            f"class ids from {given[0]} to {given[-1]} became the indices 0 to {len(given) - 1}, and the names hold "
            "the ids: compare the labels of two data sets by name, as Evaluator does"
        )
    return torch.from_numpy(np.ascontiguousarray(labels.reshape(-1)).astype(np.int64)), given


def renumbered(labels: Tensor, names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Maps indices of `names` (of consecutive numbers, if empty) to indices of `classes`.

    Raises:
        DataError: A class that occurs is not in `classes`, or several classes have one name.
    """
    count = int(labels.max()) + 1 if len(labels) else 0
    names = names or [str(number) for number in range(count)]
    ours, theirs = Counter(names), Counter(classes)
    if twice := next((name for name in ours if max(ours[name], theirs[name]) > 1), ""):
        raise DataError(f"classes cannot be matched by name, because several are called {twice!r}: rename them")
    place = {name: number for number, name in enumerate(classes)}
    table = torch.tensor([place.get(name, -1) for name in names], dtype=torch.int64)
    result = table[labels]
    if (result < 0).any():
        unknown = sorted({names[int(label)] for label in labels[result < 0].unique()})
        raise DataError(
            f"the training images have no class {unknown[0]!r}"
            f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}; "
            f"their {len(classes)} classes are {listed(classes, 8)}"
        )
    return result


def names_of(data: ImageData) -> tuple[str, ...]:
    """The names of the classes of labeled images; their numbers if they have no names."""
    assert data.labels is not None
    count = int(data.labels.max()) + 1 if len(data.labels) else 0
    return tuple(data.class_names) or tuple(str(number) for number in range(count))


def matched(queries: ImageData, bank: ImageData) -> ImageData:
    """Returns the test images with labels that are indices of the training images' classes.

    Classes are matched by name if both data sets have names, or if the names of one are numbers. Otherwise the labels
    are class indices already.

    Raises:
        DataError: The test images have a class that the training images do not have, or several classes have one name.
    """
    assert queries.labels is not None and bank.labels is not None
    named, known = tuple(queries.class_names), tuple(bank.class_names)
    if named == known:
        return queries
    if not (named and known) and not all(name.isdigit() for name in named or known):
        _check_numbers(queries.labels, named, bank.labels, known)
        return queries
    labels = renumbered(queries.labels, named, known or names_of(bank))
    if isinstance(queries, ImageDataset):
        result = copy.copy(queries)
        result.labels, result.class_names = labels, known
        return result
    return _Relabeled(queries, labels, known)


def hold_out_indices(labels: Tensor, names: Sequence[str], fraction: float) -> Tensor:
    """Draws the same fraction of the images of each class, at least one image of classes with two or more.

    The draw depends on the names alone: it is that of the smallest digests, so that images that are added later move
    few others.

    Args:
        labels: (N,), the class of each image.
        names: The name of each image.
        fraction: Part of each class, in [0, 1).

    Returns:
        Sorted positions.
    """
    digests = np.array([hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in names], "S8")
    order = torch.from_numpy(np.lexsort((digests, labels.numpy())))
    held = [torch.empty(0, dtype=torch.int64)]
    for places in order.split(labels.unique(return_counts=True)[1].tolist()):
        held.append(places[: min(len(places) - 1, max(1, round(fraction * len(places))))])
    return torch.cat(held).sort().values


def _check_numbers(labels: Tensor, named: tuple[str, ...], bank_labels: Tensor, known: tuple[str, ...]) -> None:
    """Warns that classes are matched by number, because only one data set has names.

    Raises:
        DataError: A number is not below the number of names.
    """
    names, numbers = named or known, bank_labels if named else labels
    if len(numbers) and int(numbers.max()) >= len(names):
        raise DataError(
            f"the {'training' if named else 'test'} images have class {int(numbers.max())}, and the other images only "
            f"the classes {listed(names)}: give both the same class names"
        )
    warn(
        f"only the {'test' if named else 'training'} images have class names, so classes are matched by number: 0 is "
        f"{names[0]!r}; give both data sets class_names if this is wrong"
    )


class _Relabeled(ImageDataset):
    """A data set with other labels."""

    def __init__(self, data: ImageData, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self._data, self.labels, self.class_names = data, labels, class_names
        self.mean, self.std, self.channels = data.mean, data.std, data.channels

    def __len__(self) -> int:
        return len(self._data)

    def read(self, index: int) -> Tensor:
        """Returns one image."""
        return self._data.read(index)


def _plain(values: Any) -> np.ndarray[Any, Any]:
    """Returns an array (N,) of integers, which may be Python's, or texts."""
    try:
        array = np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
    except ValueError as error:
        raise ValueError("labels must be one class per image, got sequences of different lengths") from error
    if array.ndim != 1:
        raise ValueError(f"labels must be one class per image, got shape {array.shape}")
    if array.dtype.kind in "fO" and isinstance(values, list | tuple) and {type(value) for value in values} <= {int}:
        return np.array(values, dtype=object)  # numpy turns large integers into floating-point numbers
    if array.dtype.kind == "O" and {type(value) for value in array.tolist()} <= {str, np.str_}:
        return array.astype(str)
    if array.dtype.kind == "U" and isinstance(values, list | tuple):  # numpy turns NaN and numbers into texts
        array = array if {type(value) for value in values} <= {str, np.str_} else np.array(values, dtype=object)
    if array.dtype.kind == "f" and (np.abs(array) <= _EXACT).all() and (array == np.rint(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind not in "iuU":
        types = ", ".join(sorted({type(value).__name__ for value in array.tolist()}))
        detail = "fractions, NaN or numbers above 2**53" if array.dtype.kind == "f" else types
        raise ValueError(f"labels must be one integer or text per image, got {detail}")
    return array
