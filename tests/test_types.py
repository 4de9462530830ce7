"""Random numbers for methods: the same for a whole batch and its parts."""

from __future__ import annotations

import torch

from ssl_lib import Views
from ssl_lib.types import BatchRandom


def seeded(rows=None):
    return BatchRandom(6, rows, torch.Generator().manual_seed(3))


def test_parts_of_a_batch_get_the_numbers_of_the_whole():
    whole = seeded()
    image, shared, joint = whole.per_image(2), whole.shared(4), whole.joint(3)
    assert image.shape == (6, 2) and shared.shape == (4,) and joint.shape == (6, 3)
    for rows in (torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5]), torch.tensor([5])):
        part = seeded(rows)
        assert torch.equal(part.per_image(2), image[rows])
        assert torch.equal(part.shared(4), shared)
        assert torch.equal(part.local(part.joint(3)), joint[rows])


def test_views_without_random_numbers_draw_from_the_default_generator():
    views = Views((torch.zeros(5, 1, 2, 2),))
    torch.manual_seed(0)
    drawn = views.random.per_image()
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(5))
