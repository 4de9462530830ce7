"""Tests of neighbors and selection against brute force in float64 numpy, with several block sizes."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lib.embedding import coverage, curate, farthest_points, nearest

RNG = np.random.default_rng(0)


@pytest.fixture(params=[7, 64, 2048])
def block_size(request, monkeypatch):
    """Blocks smaller and larger than the table."""
    monkeypatch.setattr(curate, "_ROWS", request.param)


@pytest.fixture
def points():
    return RNG.normal(size=(150, 12)).astype(np.float32) * RNG.uniform(0.1, 50, (150, 1)).astype(np.float32)


def cosines(a, b):
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def mapped(array, tmp_path):
    np.save(tmp_path / "mapped.npy", array)
    return np.load(tmp_path / "mapped.npy", mmap_mode="r")


def test_nearest_equals_brute_force(points, block_size, tmp_path):
    queries = RNG.normal(size=(90, 12)).astype(np.float32)
    found, rows = nearest(mapped(points, tmp_path), queries, 9)
    expected = cosines(queries, points)
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1)[:, :9])
    np.testing.assert_allclose(found, -np.sort(-expected, axis=1)[:, :9], rtol=0, atol=1e-7)


def test_ties_are_sorted_by_row(block_size):
    points = np.tile(np.eye(3, dtype=np.float32), (40, 1))
    found, rows = nearest(points, points[1:2], 50)
    expected = [*range(1, 120, 3), *[row for row in range(120) if row % 3 != 1]][:50]
    assert rows[0].tolist() == expected and found[0].tolist() == [1.0] * 40 + [0.0] * 10


def test_k_larger_than_table_returns_all_rows():
    points = np.eye(4, dtype=np.float32)
    assert nearest(points, points, 100)[1].shape == (4, 4)


def test_farthest_points_equal_brute_force(points, block_size, tmp_path):
    chosen = farthest_points(mapped(points, tmp_path), 30, seed=3)
    distance = np.sqrt(np.maximum(0, 2 - 2 * cosines(points, points)))
    expected = [chosen[0]]
    while len(expected) < 30:
        expected.append(int(distance[:, expected].min(1).argmax()))
    assert chosen.tolist() == expected
    covered = coverage(mapped(points, tmp_path), chosen)
    np.testing.assert_allclose(covered, distance[:, expected].min(1), rtol=0, atol=1e-6)
    assert covered.max() < coverage(points, RNG.permutation(150)[:30]).max()


def test_farthest_points_depend_on_seed_and_are_nested(points):
    chosen = farthest_points(points, 40, seed=1)
    assert farthest_points(points, 40, seed=1).tolist() == chosen.tolist()
    assert farthest_points(points, 11, seed=1).tolist() == chosen[:11].tolist()
    assert len({int(farthest_points(points, 1, seed=seed)[0]) for seed in range(10)}) > 1


def test_farthest_points_are_distinct():
    copies = np.ones((50, 3), np.float32)
    assert sorted(farthest_points(copies, 50).tolist()) == list(range(50))
    assert (coverage(copies, [3]) < 1e-3).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_raise(points, value):
    points[70, 3] = value
    calls = [
        lambda: nearest(points, points[:1]),
        lambda: farthest_points(points, 3),
        lambda: coverage(points, [0]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="row 70 of the embeddings is NaN or infinite"):
            call()


def test_arguments_out_of_range_raise(points):
    with pytest.raises(ValueError, match="k must be at least 1"):
        nearest(points, points[:1], 0)
    with pytest.raises(ValueError, match=r"queries must be \(Q, 12\)"):
        nearest(points, points[:1, :5])
    for count in (0, 151):
        with pytest.raises(ValueError, match="count must be from 1 to 150"):
            farthest_points(points, count)
    with pytest.raises(ValueError, match="at least one row"):
        coverage(points, [])
