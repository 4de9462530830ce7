"""PIRL's and NPID's noise-contrastive estimation against the formula in float64 numpy, and its memory bank."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lib.losses import PIRLLoss
from ssl_lib.types import BatchRandom

SIZE, DIM, T, EPS = 20, 4, 0.3, 2.0**-23
INDICES = torch.tensor([3, 7, 0, 19, 8])
SHARED = torch.tensor([5, 7, 7, 12, 0])  # twice image 7, which is in the batch, as is image 0


def embeddings(seed=0, count=5):
    return torch.randn(count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(**arguments):
    torch.manual_seed(3)
    return PIRLLoss(SIZE, DIM, **{"temperature": T, **arguments}).double()


def unit(x):
    return x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)


def exponentials(z, bank, negatives):
    """Per image, exp(s / T) of the own row and of the negatives."""
    return [
        (math.exp(a @ bank[i] / T), [math.exp(a @ bank[j] / T) for j in row])
        for a, i, row in zip(unit(z), INDICES.tolist(), negatives, strict=True)
    ]


def constant(scores):
    """Z of the first update."""
    return SIZE * np.mean([np.mean([own, *others]) for own, others in scores])


def nce(scores, z):
    losses = []
    for own, others in scores:
        prior = len(others) / SIZE
        terms = [-math.log(own / z / (own / z + prior + EPS))]
        terms += [-math.log(prior / (other / z + prior + EPS)) for other in others]
        losses.append(sum(terms))
    return np.mean(losses)


def cross_entropy(scores, _):
    return np.mean([-math.log(own / (own + sum(others))) for own, others in scores])


def rows(negatives):
    """The negatives of each image: shared ones without the image itself; (N, K) as they are; None is all others."""
    if negatives is None:
        negatives = torch.arange(SIZE)
    if negatives.ndim == 2:
        return negatives.tolist()
    return [[j for j in negatives.tolist() if j != i] for i in INDICES.tolist()]


@pytest.mark.parametrize(("kind", "formula"), [("nce", nce), ("cross_entropy", cross_entropy)])
@pytest.mark.parametrize("normalizer", [None, 31.0])
@pytest.mark.parametrize("negatives", [SHARED, torch.stack([SHARED + k for k in range(5)]), None])
def test_value_equals_the_formula(negatives, normalizer, kind, formula):
    loss = make(weight=0.3, normalizer=normalizer, kind=kind)
    image, other, bank = embeddings(), embeddings(1), loss.bank.rows.numpy()
    scores = [exponentials(z, bank, rows(negatives)) for z in (image, other)]
    z = normalizer or constant(scores[1])
    expected = 0.7 * formula(scores[0], z) + 0.3 * formula(scores[1], z)
    assert loss(image, other, INDICES, negatives).item() == pytest.approx(expected, rel=1e-12)


def test_weight_zero_is_the_loss_of_the_image_alone():
    loss, image = make(weight=0.0), embeddings()
    scores = exponentials(image, loss.bank.rows.numpy(), rows(SHARED))
    assert loss(image, None, INDICES, SHARED).item() == pytest.approx(nce(scores, constant(scores)), rel=1e-12)


def test_first_update_sets_the_normalizer_for_good():
    loss = make(weight=0.0)
    first = exponentials(embeddings(), loss.bank.rows.numpy(), rows(SHARED))
    loss(embeddings(), None, INDICES, SHARED)
    loss.commit()
    assert loss.log_normalizer.exp().item() == pytest.approx(constant(first), rel=1e-12)
    for seed in (1, 2):
        scores = exponentials(embeddings(seed), loss.bank.rows.numpy(), rows(SHARED))
        value = loss(embeddings(seed), None, INDICES, SHARED)
        assert value.item() == pytest.approx(nce(scores, constant(first)), rel=1e-12)
        loss.commit()


def test_skipped_update_and_eval_mode_set_no_normalizer_and_leave_the_bank():
    loss = make(weight=0.0)
    before = loss.bank.rows.clone()
    loss(embeddings(), None, INDICES, SHARED)
    loss.rollback()
    loss.commit()
    loss.eval()(embeddings(), None, INDICES, SHARED)
    loss.commit()
    assert torch.equal(loss.bank.rows, before) and loss.log_normalizer == 0
    scores = exponentials(embeddings(1), before.numpy(), rows(SHARED))
    value = loss(embeddings(1), None, INDICES, SHARED).item()
    assert value == pytest.approx(nce(scores, constant(scores)), rel=1e-12)


def test_normalizer_is_restored_from_the_state():
    loss, restored = make(weight=0.0), make(weight=0.0)
    loss(embeddings(), None, INDICES, SHARED)
    loss.commit()
    restored.load_state_dict(loss.state_dict())
    assert torch.equal(restored(embeddings(1), None, INDICES, SHARED), loss(embeddings(1), None, INDICES, SHARED))


def test_bank_follows_the_image_alone_after_the_update():
    loss = make(momentum=0.4)
    bank = loss.bank.rows.clone()
    for step in range(2):
        image, other = embeddings(step), embeddings(step + 5)
        loss(image, other, INDICES, SHARED)
        assert torch.equal(loss.bank.rows, bank)
        loss.commit()
        for i, row in zip(INDICES.tolist(), unit(image), strict=True):
            moved = 0.4 * bank[i] + 0.6 * torch.from_numpy(row)
            bank[i] = moved / moved.norm()
        torch.testing.assert_close(loss.bank.rows, bank, rtol=1e-12, atol=1e-14)
        bank = loss.bank.rows.clone()


@pytest.mark.parametrize("kind", ["nce", "cross_entropy"])
@pytest.mark.parametrize("negatives", [SHARED, SHARED.expand(5, -1)])
def test_gradient_matches_finite_differences(negatives, kind):
    loss = make(normalizer=25.0, kind=kind, weight=0.4).eval()
    inputs = embeddings().requires_grad_(), embeddings(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, INDICES, negatives), inputs)


@pytest.mark.parametrize("kind", ["nce", "cross_entropy"])
def test_chance_is_the_loss_of_equal_similarities(kind):
    loss = make(weight=0.0, num_negatives=6, kind=kind)
    loss.bank.rows[:, 0] = 0  # so that every row is orthogonal to the embeddings
    z = torch.tensor([[2.0, 0.0, 0.0, 0.0]]).double().expand(5, -1)
    value = loss(z, None, INDICES, torch.tensor([1, 2, 4, 5, 6, 9]))
    assert value.item() == pytest.approx(loss.chance, rel=1e-6)  # eps
    assert make(num_negatives=100, kind="cross_entropy").chance == pytest.approx(math.log(SIZE))


def test_small_temperature_neither_overflows_nor_loses_the_gradient():
    torch.manual_seed(0)
    loss = PIRLLoss(SIZE, DIM, temperature=0.002, weight=0.0)
    z = (loss.bank.rows[INDICES] + 0.3 * torch.randn(5, DIM)).requires_grad_()
    value = loss(z, None, INDICES)
    value.backward()
    assert value.isfinite() and z.grad.isfinite().all() and z.grad.abs().max() > 1


def test_drawn_negatives_are_shared_and_cover_the_bank():
    loss = make(num_negatives=10)
    parts = [BatchRandom(4, torch.tensor(part), torch.Generator().manual_seed(1)) for part in ([0, 2], [1, 3])]
    first, second = (loss.draw(random) for random in parts)
    assert torch.equal(first, second) and first.shape == (10,)
    drawn = torch.cat([loss.draw(BatchRandom(1)) for _ in range(100)])
    assert set(drawn.tolist()) == set(range(SIZE))
    assert make(num_negatives=SIZE).draw(parts[0]) is None


def test_without_negatives_other_rows_are_drawn_if_the_bank_has_more():
    loss = make(weight=0.0, num_negatives=3, normalizer=30.0).eval()
    values = {round(loss(embeddings(), None, INDICES).item(), 9) for _ in range(20)}
    assert len(values) > 10
    everything = make(weight=0.0, num_negatives=SIZE - 1, normalizer=30.0).eval()
    assert everything(embeddings(), None, INDICES) == everything(embeddings(), None, INDICES)


@pytest.mark.parametrize(
    "arguments",
    [{"size": 1}, {"num_negatives": 0}, {"weight": 1.5}, {"kind": "info"}, {"temperature": 0.0}, {"normalizer": -1.0}],
)
def test_bad_constructor_arguments_raise(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name}.* got .*{value}"):
        PIRLLoss(**{"size": SIZE, "dim": DIM, **arguments})


def test_bad_inputs_raise():
    loss, z = make(), embeddings()
    with pytest.raises(ValueError, match=r"only be None if weight is 0, got weight 0.5"):
        loss(z, None, INDICES)
    with pytest.raises(ValueError, match="z_image and z_transformed must have the same shape"):
        loss(z, z[:3], INDICES)
    with pytest.raises(ValueError, match=r"indices must have shape \(5,\), got \(3,\)"):
        loss(z, z, INDICES[:3])


def test_loss_leaves_autocast():
    loss, z = PIRLLoss(SIZE, DIM, normalizer=30.0).eval(), embeddings().float()
    expected = loss(z, z.flip(1), INDICES, SHARED)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(z, z).dtype == torch.bfloat16
        assert torch.equal(loss(z, z.flip(1), INDICES, SHARED), expected)
