"""The gradient averaged over several processes is that of one process on the joined batch, for every loss."""

import pytest
import torch
from torch import Tensor, nn

from ssl_lib.distributed import all_reduce_sum, batch_normalize, gather, rank, world_size
from ssl_lib.losses import BarlowTwinsLoss, DINOLoss, NegativeCosineLoss, NTXentLoss, VICRegLoss
from ssl_lib.registry import LOSSES
from tests.distributed_helper import run_processes

WORLD_SIZES = (2, 3)
BATCHES = (12, 6, "one image per process")
CASES: dict[str, tuple[str, nn.Module]] = {
    "ntxent whole": ("ntxent", NTXentLoss(0.2)),
    "ntxent chunked": ("ntxent", NTXentLoss(0.2, chunk_size=3)),
    "negative_cosine": ("negative_cosine", NegativeCosineLoss()),
    "barlow_twins": ("barlow_twins", BarlowTwinsLoss(0.3, scale=0.1)),
    "vicreg": ("vicreg", VICRegLoss()),
    "dino": ("dino", DINOLoss(5, center_momentum=0.5).double()),
}


def joined_views(batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return [torch.randn(batch, 6, dtype=torch.float64, generator=generator) for _ in range(4)]


def step(loss: nn.Module, views: list[Tensor]) -> dict[str, Tensor]:
    """One forward and backward of a linear model."""
    weight = torch.linspace(-1, 1, 30, dtype=torch.float64).sin().reshape(6, 5).requires_grad_()
    embeddings = [view @ weight for view in views]
    if isinstance(loss, DINOLoss):
        teacher = [view @ weight.detach().cos() for view in views[:2]]
        loss(embeddings, teacher, 0.1)
        loss.update_center()  # so that the centre is not zero in what follows
        value = loss(embeddings, teacher, 0.1)
        loss.update_center()
    else:
        value = loss(*embeddings[:2])
    value.backward()
    assert weight.grad is not None
    return {"value": value.detach(), "grad": weight.grad}


def steps() -> dict[str, Tensor]:
    """All cases in this process, on its share of the joined batch."""
    results = {}
    for batch in BATCHES:
        size = batch if isinstance(batch, int) else world_size()
        views = [view.chunk(world_size())[rank()] for view in joined_views(size)]
        for case, (_, loss) in CASES.items():
            if isinstance(loss, DINOLoss):
                loss.center.zero_()
            results |= {f"{case} {batch} {key}": value for key, value in step(loss, views).items()}
    dino = CASES["dino"][1]
    part = torch.arange(6.0).reshape(2, 3).T + 10 * rank()  # not contiguous in memory
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(rank())) * 3 + 100
    return results | {
        "center": dino.center,
        "gather": gather(part),
        "sum": all_reduce_sum(part),
        "x": x,
        "normalized": batch_normalize(x),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Tensor]]]:
    return run_processes(steps, WORLD_SIZES, tmp_path_factory.mktemp("processes"))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def test_every_registered_loss_has_a_case() -> None:
    assert {name for name, _ in CASES.values()} == set(LOSSES)
    assert all(isinstance(loss, LOSSES[name]) for name, loss in CASES.values())


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", CASES)
def test_averaged_gradient_is_that_of_the_joined_batch(results, case, batch, world) -> None:
    loss = CASES[case][1]
    if isinstance(loss, DINOLoss):
        loss.center.zero_()
    expected = step(loss, joined_views(batch if isinstance(batch, int) else world))
    for key in ("value", "grad"):
        mean = torch.stack([result[f"{case} {batch} {key}"] for result in results[world]]).mean(0)
        assert relative_error(mean, expected[key]) <= 1e-10, key


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_centre_is_the_same_everywhere_and_that_of_the_joined_batch(results, world) -> None:
    loss = DINOLoss(5, center_momentum=0.5).double()
    step(loss, joined_views(world))
    for result in results[world]:
        assert torch.equal(result["center"], results[world][0]["center"])
        assert relative_error(result["center"], loss.center) <= 1e-10


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_collectives(results, world) -> None:
    parts = [torch.arange(6.0).reshape(2, 3).T + 10 * i for i in range(world)]
    joined = torch.cat([result["x"] for result in results[world]])
    norm = nn.BatchNorm1d(3, affine=False, dtype=torch.float64)(joined).chunk(world)
    for i, result in enumerate(results[world]):
        assert torch.equal(result["gather"], torch.cat(parts))
        assert torch.equal(result["sum"], torch.stack(parts).sum(0))
        torch.testing.assert_close(result["normalized"], norm[i], rtol=1e-10, atol=1e-10)
