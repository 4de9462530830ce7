"""Tests of groups of near-duplicates against a greedy loop in float64 numpy, with several block sizes."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lib.embedding import curate, duplicate_groups

RNG = np.random.default_rng(0)


@pytest.fixture(params=[7, 64, 2048])
def block_size(request, monkeypatch):
    """Blocks smaller and larger than the table."""
    monkeypatch.setattr(curate, "_ROWS", request.param)


def cosines(a, b):
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def greedy(similarity, threshold, order=None):
    """Groups by the definition: each image in order is kept, or belongs to the most similar image kept before it."""
    groups = {}
    for row in range(len(similarity)) if order is None else order:
        near = max(groups, key=lambda kept: similarity[row, kept], default=None)
        if near is not None and similarity[row, near] >= threshold:
            groups[near].append(int(row))
        else:
            groups[int(row)] = []
    return [[row, *sorted(rest)] for row, rest in sorted(groups.items()) if rest]


def plain(groups):
    return [group.tolist() for group in groups]


def clusters():
    """150 images and 60 noisy copies of some of them, shuffled, of any length."""
    points = RNG.normal(size=(150, 12)) * RNG.uniform(0.1, 50, (150, 1))
    near = points[RNG.integers(0, 150, 60)]
    near = near * (1 + 0.3 * RNG.normal(size=near.shape))
    return RNG.permutation(np.concatenate([points, near])).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_groups_equal_the_greedy_definition(block_size, threshold, tmp_path):
    points = clusters()
    np.save(tmp_path / "mapped.npy", points)
    found = plain(duplicate_groups(np.load(tmp_path / "mapped.npy", mmap_mode="r"), threshold))
    assert found == greedy(cosines(points, points), threshold) and found


def test_every_image_is_similar_to_the_kept_image_and_no_two_kept_images_are(block_size):
    points = clusters()
    similarity = cosines(points, points)
    groups = duplicate_groups(points, 0.7)
    dropped = {row for group in groups for row in group[1:].tolist()}
    assert all(similarity[group[0], group[1:]].min() >= 0.7 - 2e-6 for group in groups)
    kept = [row for row in range(len(points)) if row not in dropped]
    assert (similarity[np.ix_(kept, kept)] - 2 * np.eye(len(kept))).max() < 0.7
    assert len(dropped) == sum(len(group) - 1 for group in groups)  # in one group each


def test_chain_of_different_images_is_not_one_group(block_size):
    """180 images, each similar to the next: with chains, one group of images up to 90 degrees apart."""
    angles = np.radians(np.arange(0, 90, 0.5))
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = plain(duplicate_groups(chain, np.cos(np.radians(0.7))))
    assert groups == [[row, row + 1] for row in range(0, 180, 2)]
    for order in (RNG.permutation(180), np.arange(180)[::-1]):
        for first, *rest in plain(duplicate_groups(chain[order], np.cos(np.radians(0.7)))):
            assert all(abs(order[first] - order[row]) == 1 for row in rest)
    assert duplicate_groups(chain, np.cos(np.radians(0.3))) == []


def test_order_chooses_the_images_to_keep_and_to_compare(block_size):
    points = clusters()
    order = RNG.permutation(len(points))[:170]
    found = duplicate_groups(points, 0.6, order=order)
    assert plain(found) == greedy(cosines(points, points), 0.6, order)
    points[np.setdiff1d(np.arange(len(points)), order)[0]] = np.nan  # a row that is not compared
    assert plain(duplicate_groups(points, 0.6, order=order)) == plain(found)
    assert duplicate_groups(points, 0.6, order=order[:0]) == []
    points[order[100], 2] = np.inf
    with pytest.raises(ValueError, match=f"row {order[100]} of the embeddings is NaN or infinite"):
        duplicate_groups(points, 0.6, order=order)


def test_mirrored_embeddings_find_flipped_copies(block_size):
    points, mirrored = clusters(), clusters()
    mirrored[40:60], points[100:120] = points[100:120], mirrored[40:60]
    similarity = np.maximum(cosines(points, points), cosines(mirrored, points))
    assert plain(duplicate_groups(points, 0.8, mirrored=mirrored)) == greedy(similarity, 0.8)
    assert plain(duplicate_groups(points, 0.8, mirrored=points)) == plain(duplicate_groups(points, 0.8))
    with pytest.raises(
        ValueError, match=r"mirrored must have the shape of the embeddings, \(210, 12\), got \(209, 12\)"
    ):
        duplicate_groups(points, mirrored=mirrored[1:])


def test_copies_are_duplicates_at_threshold_one():
    points = RNG.normal(size=(150, 12)).astype(np.float32)
    joined = np.concatenate([points, 3 * points[:5]])
    assert plain(duplicate_groups(joined, 1.0)) == [[row, row + 150] for row in range(5)]


def test_many_copies_form_one_group(block_size):
    (group,) = duplicate_groups(np.ones((300, 2), np.float32))
    assert group.tolist() == list(range(300))


def test_rows_of_zeros_have_no_duplicates():
    assert duplicate_groups(np.zeros((5, 3), np.float32)) == []


@pytest.mark.parametrize("threshold", [0, 1.5, np.nan])
def test_threshold_out_of_range_raises(threshold):
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1"):
        duplicate_groups(np.ones((3, 2), np.float32), threshold)


def test_non_finite_values_raise():
    points = np.ones((90, 3), np.float32)
    points[70, 1] = np.nan
    with pytest.raises(ValueError, match="row 70 of the embeddings is NaN or infinite"):
        duplicate_groups(points)
