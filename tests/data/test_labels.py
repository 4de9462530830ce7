from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ssl_lib.data import ArrayData
from ssl_lib.data.base import DataWarning
from ssl_lib.data.labels import class_labels, hold_out_indices, matched, names_of, renumbered
from ssl_lib.errors import DataError


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([0, 2, 1, 1], [0, 2, 1, 1], ()),
        ([], [], ()),
        ([5, 5, 5], [5, 5, 5], ()),  # other classes may be missing
        ([103, 0, 103], [103, 0, 103], ()),
        ([108, 0, 108], [1, 0, 1], ("0", "108")),  # more than a few
        ([0, 3000, 1, 2], [0, 3, 1, 2], ("0", "1", "2", "3000")),
        ([2_000_000, 7, 10**9, 7], [1, 0, 2, 0], ("7", "2000000", "1000000000")),
        ([2**64 - 1, 0], [1, 0], ("0", "18446744073709551615")),
        ([2**70, 2**64, 2**70], [1, 0, 1], (str(2**64), str(2**70))),
        (np.array([2**64 - 1, 2**64 - 2], np.uint64), [1, 0], (str(2**64 - 2), str(2**64 - 1))),
        (np.array([3, 1], np.uint8), [3, 1], ()),
        (torch.tensor([1, 3, 1]), [1, 3, 1], ()),
        ([1.0, 0.0, 2.0], [1, 0, 2], ()),
        ([4.0, 2.0], [4, 2], ()),
        ([True, False, True], [1, 0, 1], ()),
        (["dog", "ant", "dog"], [1, 0, 1], ("ant", "dog")),
        (np.array(["b", "a"], dtype=object), [1, 0], ("a", "b")),
        (["10", "9"], [0, 1], ("10", "9")),
    ],
)
@pytest.mark.filterwarnings("ignore:class ids from")
def test_any_classes_become_indices(values, labels, names):
    found, found_names = class_labels(values)
    assert found.dtype == torch.int64 and found.tolist() == labels and found_names == names


def test_indices_of_given_names_are_unchanged():
    labels, names = class_labels([2, 2, 0], ["ant", "bee", "cat"])
    assert labels.tolist() == [2, 2, 0] and names == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, -1], (), "must not be negative, got -1"),
        ([0, 3], ("a", "b"), "below the number of classes, 2, got up to 3"),
        ([0.5, 1], (), "fractions, NaN or numbers above"),
        ([float("nan"), 1], (), "fractions, NaN or numbers above"),
        ([1e300, 1], (), "numbers above"),
        ([-1, 2**64 - 1], (), "must not be negative, got -1"),
        ([2**64, 1], ("a", "b"), "got up to 18446744073709551616"),
        ([[0], [1]], (), r"got shape \(2, 1\)"),
        ([[0], [1, 2]], (), "sequences of different lengths"),
        ([0, None], (), "got NoneType, int"),
        (["a", 1.5, None], (), "got NoneType, float, str"),
        (["a", float("nan")], (), "got float, str"),  # numpy makes a class "nan" of it
        (np.array(["a", np.nan], dtype=object), (), "got float, str"),
        ([1, "a"], (), "got int, str"),
        ([b"a"], (), "got bytes"),
        (3, (), r"got shape \(\)"),
    ],
)
def test_values_that_are_not_classes_raise_an_error(values, names, message):
    with pytest.raises(ValueError, match=message):
        class_labels(values, names)


def labeled(labels, names=()):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "class ids from", DataWarning)
        return ArrayData(np.zeros((len(labels), 2, 2), np.uint8), np.array(labels), tuple(names))


@pytest.mark.parametrize(
    ("queries", "bank", "expected"),
    [
        (labeled([0, 1, 1], ["dog", "cat"]), labeled([0, 1], ["cat", "dog"]), [1, 0, 0]),  # by name, not by number
        (labeled(["dog"]), labeled(["ant", "dog", "cat"]), [2]),
        (labeled([2, 2, 0]), labeled([0, 2], ["0", "1", "2"]), [2, 2, 0]),  # numbers are names
        (labeled([3000, 2000]), labeled([1000, 2000, 3000]), [2, 1]),
        (labeled([2000, 2000]), labeled([3000, 0, 2000]), [1, 1]),
        (labeled([1, 2]), labeled([2, 0, 1]), [1, 2]),  # sparse queries, dense bank
        (labeled([0, 1]), labeled(["b", "a"]), [0, 1]),  # the queries have no names: indices already
        (labeled([0, 1]), labeled([0, 1]), [0, 1]),
    ],
)
@pytest.mark.filterwarnings("ignore:only the training images have class names")
def test_classes_are_matched_by_name_or_number(queries, bank, expected):
    result = matched(queries, bank)
    assert result.labels.tolist() == expected and len(result) == len(queries)
    assert result.class_names in (bank.class_names, queries.class_names)
    assert torch.equal(result.read(0), queries.read(0))


def test_matching_leaves_the_queries_unchanged_and_works_for_any_image_data():
    class Plain:
        mean, std, channels, class_names, labels = (0.5,), (0.5,), 1, ("dog", "ant"), torch.tensor([0, 1])

        def __len__(self):
            return 2

        def read(self, index):
            return torch.full((1, 2, 2), index, dtype=torch.uint8)

    queries = Plain()
    result = matched(queries, labeled([0, 1, 2], ["ant", "bee", "dog"]))
    assert result.labels.tolist() == [2, 0] and queries.labels.tolist() == [0, 1]
    assert (len(result), result.channels, int(result.read(1)[0, 0, 0])) == (2, 1, 1)


@pytest.mark.parametrize(
    ("queries", "bank", "message"),
    [
        (labeled(["cat", "emu", "fox"]), labeled(["ant", "cat"]), "no class 'emu' and 1 more; their 2 classes are ant"),
        (labeled([3000, 1]), labeled([0, 1]), "no class '3000'"),
        (labeled([0, 1]), labeled([1000, 2000]), "no class '0' and 1 more"),
    ],
)
def test_classes_without_training_images_raise_an_error(queries, bank, message):
    with pytest.raises(DataError, match=message):
        matched(queries, bank)


@pytest.mark.parametrize("twice", ["queries", "bank"])
def test_classes_of_one_name_are_not_matched(twice):
    """As in ImageNet, where two classes are called crane, and two maillot."""
    pair = {"queries": labeled([0, 1], ["cat", "crane"]), "bank": labeled([0, 1, 2], ["crane", "cat", "ant"])}
    pair[twice] = labeled([0, 1, 2], ["crane", "cat", "crane"])
    with pytest.raises(DataError, match="several are called 'crane'"):
        matched(**pair)
    same = labeled([2, 0, 1], ["crane", "cat", "crane"])  # the same names in the same order are indices
    assert matched(same, same).labels.tolist() == [2, 0, 1]


def test_many_classes_are_matched_quickly():
    names = [f"class {number}" for number in range(22_000)]
    labels = torch.arange(22_000)
    assert torch.equal(renumbered(labels, names[::-1], names), labels.flip(0))


def test_names_of_unnamed_classes_are_their_numbers():
    assert names_of(labeled([2, 0, 1])) == ("0", "1", "2") and names_of(labeled(["b", "a"])) == ("a", "b")


@pytest.mark.parametrize(("fraction", "counts"), [(0.1, [5, 1, 1, 0]), (0.5, [25, 5, 1, 0]), (0.99, [49, 9, 1, 0])])
def test_hold_out_takes_the_same_fraction_of_each_class(fraction, counts):
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [7])[torch.randperm(63)]
    images = [f"{index}.png" for index in range(63)]
    held = hold_out_indices(labels, images, fraction)
    assert [int((labels[held] == label).sum()) for label in (0, 1, 2, 7)] == counts
    assert held.tolist() == sorted(set(held.tolist()))
    torch.manual_seed(1)
    assert torch.equal(held, hold_out_indices(labels.clone(), images, fraction))  # not of the global generator
    order = torch.randperm(63)
    again = hold_out_indices(labels[order], [images[index] for index in order], fraction)
    assert sorted(order[again].tolist()) == held.tolist()  # by name, not by position


def test_hold_out_of_a_class_does_not_depend_on_other_classes():
    images = [f"{index}.png" for index in range(100)]
    first = hold_out_indices(torch.tensor([0] * 50), images[:50], 0.2)
    both = hold_out_indices(torch.tensor([0] * 50 + [1] * 50), images, 0.2)
    assert both[both < 50].tolist() == first.tolist() and (both[both >= 50] - 50).tolist() != first.tolist()


def test_images_that_are_added_hardly_move_the_hold_out():
    before = [f"image {index}.png" for index in range(400)]
    after = sorted([*before, *(f"a new image {index}.png" for index in range(200))])
    held, later = (
        {names[index] for index in hold_out_indices(torch.zeros(len(names), dtype=torch.int64), names, 0.1).tolist()}
        for names in (before, after)
    )
    assert (len(held), len(later)) == (40, 60)
    assert len((later & set(before)) - held) <= 5  # a draw by position would move about 36 of them


def test_time_and_memory_follow_the_number_of_classes():
    labels = torch.arange(200_000) % 20_000
    assert len(hold_out_indices(labels, list(map(str, range(200_000))), 0.1)) == 20_000
    ids = np.arange(4, dtype=np.uint64) * np.uint64(2**62)
    with pytest.warns(DataWarning, match=r"class ids from 0 to \d+ became the indices 0 to 3, and the names"):
        data = ArrayData(np.zeros((4, 2, 2), np.uint8), ids)
    assert data.labels.tolist() == [0, 1, 2, 3] and data.class_names == tuple(map(str, ids.tolist()))


def test_texts_are_indices_of_given_names():
    labels, names = class_labels(["b", "a", "b"], names=("b", "a", "c"))
    assert labels.tolist() == [0, 1, 0] and names == ("b", "a", "c")
    with pytest.raises(ValueError, match="the label 'd' is none of the classes a, b"):
        class_labels(["a", "d"], names=("a", "b"))


def test_classes_with_names_on_one_side_are_matched_by_number_with_a_warning():
    with pytest.warns(DataWarning, match="only the test images have class names, .* matched by number: 0 is 'ant'"):
        assert matched(labeled(["ant", "cat"]), labeled([0, 1, 1])).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="the test images have class 5, and the other images only the classes a, b"):
        matched(labeled([1, 5]), labeled(["a", "b"]))
