"""Queues and banks: order, first in first out, micro-batches, skipped updates, checks and state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ssl_lib.memory import FeatureBank, FeatureQueue, check_memories, memories
from ssl_lib.utils.rows import unit_rows


def embeddings(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 1, 7, 3], [10, 23], [25]])
def test_queue_holds_the_last_rows_in_place_of_the_oldest(sizes):
    torch.manual_seed(0)
    queue = FeatureQueue(10, 3).double()
    held = list(queue.rows.numpy())
    place = 0
    for seed, size in enumerate(sizes):
        new = embeddings(size, seed)
        queue.collect(new)
        assert np.array_equal(np.array(held), queue.rows.numpy()), "rows changed before the update"
        queue.commit()
        for row in new.numpy():
            held[place % 10] = row / np.linalg.norm(row)
            place += 1
        np.testing.assert_allclose(queue.rows.numpy(), np.array(held), rtol=1e-12)
        assert queue.full == (place >= 10)


def test_micro_batches_enter_together_and_skipped_updates_do_not():
    torch.manual_seed(0)
    queue = FeatureQueue(8, 3).double()
    twin = copy.deepcopy(queue)
    rows = embeddings(6)
    queue.collect(rows[:2])
    queue.collect(rows[2:])
    queue.rollback()
    queue.commit()
    assert torch.equal(queue.rows, twin.rows) and not queue.full
    for part in rows.split(2):
        queue.collect(part)
    queue.commit()
    twin.collect(rows)
    twin.commit()
    assert torch.equal(queue.rows, twin.rows)
    queue.eval().collect(rows)
    queue.commit()
    assert torch.equal(queue.rows, twin.rows)


def test_queue_continues_after_loading_its_state():
    torch.manual_seed(0)
    queue, other = FeatureQueue(8, 3), FeatureQueue(8, 3)
    queue.collect(embeddings(5).float())
    queue.commit()
    other.load_state_dict(queue.state_dict())
    for part in (queue, other):
        part.collect(embeddings(5, seed=1).float())
        part.commit()
    assert torch.equal(queue.rows, other.rows) and queue.full and other.full


def test_nearest_row_by_brute_force():
    torch.manual_seed(0)
    queue = FeatureQueue(20, 3).double()
    x = embeddings(7)
    cosines = unit_rows(x).numpy() @ queue.rows.numpy().T
    np.testing.assert_array_equal(queue.nearest(x), queue.rows.numpy()[cosines.argmax(1)])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_bank_moves_the_rows_of_its_images(momentum):
    torch.manual_seed(0)
    bank = FeatureBank(9, 3, momentum).double()
    expected = bank.rows.numpy().copy()
    for seed in range(2):
        new, indices = embeddings(4, seed), torch.tensor([7, 0, 3, 5])
        bank.collect(new[:1], indices[:1])
        bank.collect(new[1:], indices[1:])
        bank.commit()
        for row, index in zip(new.numpy(), indices.tolist(), strict=True):
            moved = momentum * expected[index] + (1 - momentum) * row / np.linalg.norm(row)
            expected[index] = moved / np.linalg.norm(moved)
        np.testing.assert_allclose(bank.rows.numpy(), expected, rtol=1e-12)
    bank.fill(embeddings(2, 9))
    expected[:2] = unit_rows(embeddings(2, 9)).numpy()
    np.testing.assert_allclose(bank.rows.numpy(), expected, rtol=1e-12)


def test_sizes_that_do_not_fit_the_data_are_refused_with_the_largest_valid_one():
    parts = torch.nn.ModuleList([FeatureQueue(64, 3), torch.nn.Linear(2, 2)])
    assert len(memories(parts)) == 1
    check_memories(parts, 64)
    with pytest.raises(ValueError, match=r"64 embeddings is larger than the data set of 63 images: .* at most 63"):
        check_memories(parts, 63)
    with pytest.raises(ValueError, match="a bank of 5 images does not fit the data set of 6"):
        check_memories(FeatureBank(5, 3), 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureQueue(0, 3), "must be positive, got 0 and 3"),
        (lambda: FeatureQueue(3, 0), "must be positive"),
        (lambda: FeatureBank(0, 3), "num_images and dim"),
        (lambda: FeatureBank(3, 3, 1.0), r"momentum in \[0, 1\), got 3, 3 and 1.0"),
    ],
)
def test_wrong_sizes_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
