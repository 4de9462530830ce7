"""For every loss, the gradient averaged over processes equals the gradient of one process on the global batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_lib.distributed import all_reduce_sum, batch_normalize, gather, joined, rank, share, world_size
from ssl_lib.losses import (
    BarlowTwinsLoss,
    CodingRateLoss,
    DCLLoss,
    DINOLoss,
    MMCRLoss,
    NTXentLoss,
    RPCLoss,
    SupConLoss,
    VICRegLoss,
    WMSELoss,
)
from tests.distributed_helper import run_processes
from tests.losses.generic import LOSSES, after_update, build, inputs


class LabeledSupCon(nn.Module):
    """SupCon with labels: images of the same class are in different processes."""

    def __init__(self, contrast_mode: Literal["all", "one"]) -> None:
        super().__init__()
        self.loss = SupConLoss(0.2, base_temperature=0.07, contrast_mode=contrast_mode)

    def forward(self, z_a: Tensor, z_b: Tensor, assignments: Tensor) -> Tensor:
        return self.loss(torch.stack((z_a, z_b), 1), assignments)


class GroupedWMSE(nn.Module):
    """W-MSE in two groups of the joined batch, drawn from a seed; in one group if it is too small."""

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        count = len(z_a) * world_size()
        loss = WMSELoss(count // 2 if count % 4 == 0 else count)
        if world_size() > 1 and loss.whitening_size != count:
            with pytest.raises(ValueError, match="in several processes, pass the same permutations"):
                loss(z_a, z_b)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        return loss(z_a, z_b, permutations=order[None])


WORLD_SIZES = (2, 3, 4)
WIDTH = 5
CASES: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(build, name, WIDTH) for name in LOSSES},
    "ntxent in chunks": lambda: NTXentLoss(0.2, chunk_size=3),
    "barlow_twins reweighted": lambda: BarlowTwinsLoss(0.3, scale=0.1),
    "dino with a fast center": lambda: DINOLoss(WIDTH, center_momentum=0.5),
    "barlow_twins hsic": lambda: BarlowTwinsLoss(0.3, hsic=True),
    "dclw": lambda: DCLLoss(0.2, sigma=0.5),
    "rpc of dot products": lambda: RPCLoss(2.0, normalize=False),
    "supcon with labels": lambda: LabeledSupCon("all"),
    "supcon with one anchor": lambda: LabeledSupCon("one"),
    "vicreg_exp": lambda: VICRegLoss(covariance="exp", temperature=0.5),
    "vicreg_ctr": lambda: VICRegLoss(covariance="ctr", temperature=0.5),
    "w_mse in groups": GroupedWMSE,
    "mmcr with a local term": lambda: MMCRLoss(0.5),
    "coding rate of the student": lambda: CodingRateLoss(0.05, expansion="student"),
}
PER_PROCESS = (6, 1)  # images


def global_views(batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return [torch.randn(batch, 6, dtype=torch.float64, generator=generator) for _ in range(4)]


def train(case: str, batch: int) -> dict[str, Tensor]:
    """Runs two forward and backward passes of a linear model on this process's part of the batch.

    Returns the loss values, the gradient and the state of the loss.
    """
    loss = CASES[case]().double()
    weight = torch.linspace(-1, 1, 30, dtype=torch.float64).sin().reshape(6, WIDTH).requires_grad_()
    values = []
    for _ in range(2):  # the second pass uses state from the first, such as a center
        parts = (share(view) @ weight for view in global_views(batch))
        value = loss(**inputs(loss, parts.__next__, share(torch.arange(batch))))
        value.backward()
        after_update(loss)
        values.append(value.detach())
    assert weight.grad is not None
    return {"value": torch.stack(values), "gradient": weight.grad, **loss.state_dict()}


def work() -> dict[str, Tensor]:
    """Runs all cases in this process."""
    results = {
        f"{case} {batch} {key}": value
        for case in CASES
        for batch in PER_PROCESS
        for key, value in train(case, batch * world_size()).items()
    }
    part = torch.arange(6.0).reshape(2, 3).T + 10 * rank()  # not contiguous in memory
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(rank())) * 3 + 100
    collectives = {
        "gather": gather(part),
        "joined": joined(part),
        "sum": all_reduce_sum(part),
        "x": x,
        "normalized": batch_normalize(x),
    }
    return results | collectives


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Tensor]]]:
    return run_processes(work, WORLD_SIZES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("world", WORLD_SIZES)
@pytest.mark.parametrize("batch", PER_PROCESS)
@pytest.mark.parametrize("case", CASES)
def test_average_over_processes_equals_the_global_batch(results, case, batch, world) -> None:
    for key, expected in train(case, batch * world).items():
        actual = torch.stack([result[f"{case} {batch} {key}"] for result in results[world]])
        error = (actual.mean(0) - expected).norm() / expected.norm()
        assert error <= 1e-10, key
        if key not in ("value", "gradient"):
            assert all(torch.equal(value, actual[0]) for value in actual), f"{key} differs between processes"


@pytest.mark.parametrize("world", WORLD_SIZES)
def test_collectives_equal_one_process(results, world) -> None:
    parts = [torch.arange(6.0).reshape(2, 3).T + 10 * i for i in range(world)]
    joined = torch.cat([result["x"] for result in results[world]])
    norm = nn.BatchNorm1d(3, affine=False, dtype=torch.float64)(joined).chunk(world)
    for i, result in enumerate(results[world]):
        assert torch.equal(result["gather"], torch.cat(parts))
        assert torch.equal(result["joined"], torch.stack(parts, 1).flatten(0, 1))
        assert torch.equal(result["sum"], torch.stack(parts).sum(0))
        torch.testing.assert_close(result["normalized"], norm[i], rtol=1e-10, atol=1e-10)
