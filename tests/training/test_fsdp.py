"""FSDP2: processes that shard a method compute the same as one process on the joined batch, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ssl_lib import Trainer
from ssl_lib.backbones.resnet import resnet18
from ssl_lib.errors import ConfigError
from ssl_lib.training.fsdp import OLDEST_TORCH, blocks
from tests.conftest import small_method
from tests.distributed_helper import run_processes
from tests.training.fsdp_helper import CASES, compute_all, fit, resume_copy, saved_tensors, train, vit

SUPPORTED = torch.__version__ >= OLDEST_TORCH
needs_fsdp2 = pytest.mark.skipif(not SUPPORTED, reason="the Trainer refuses fsdp2 with this torch version")
TOLERANCES = {"dino in fp32": 1e-4, "dino in bf16": 0.1}


@pytest.fixture(scope="module", params=[(2,), pytest.param((2, 4), marks=pytest.mark.slow)], ids=["2", "4"])
def results(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    fit(folder / "alone", "ddp")
    fit(folder / "begun alone", "ddp", after=4)
    results = run_processes(compute_all, request.param, folder, folder, request.param[-1])
    return results[request.param[-1]][0] | {"folder": folder, "sizes": request.param}


@needs_fsdp2
@pytest.mark.parametrize("case", CASES)
def test_sharded_training_equals_one_process(results, case):
    for key, value in train(case, "ddp").items():
        error = (results[f"{case} {key}"].double() - value.double()).norm() / value.double().norm().clamp(min=1e-3)
        assert error <= TOLERANCES.get(case, 1e-8), f"{key}: relative error {error:.1e}"


@needs_fsdp2
def test_resumed_run_equals_uninterrupted_run(results):
    folder = results["folder"] / str(results["sizes"][-1])
    uninterrupted, resumed = (saved_tensors(folder / name) for name in ("uninterrupted", "resumed"))
    assert uninterrupted.keys() == resumed.keys() and len(uninterrupted) > 100
    for key, value in uninterrupted.items():
        assert torch.equal(value, resumed[key]), key


@needs_fsdp2
def test_run_resumes_with_another_strategy_and_number_of_processes(results, tmp_path):
    folder, alone = results["folder"], saved_tensors(results["folder"] / "alone")
    for world in results["sizes"]:
        resume_copy(folder / str(world) / "begun by fsdp2", tmp_path / f"then alone {world}", "ddp")
    runs = [*folder.glob("*/then *"), *tmp_path.iterdir()]
    assert len(runs) == (2 if results["sizes"] == (2,) else 7)
    for run in runs:
        saved = saved_tensors(run)
        assert saved.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(saved[key], value, rtol=1e-8, atol=1e-11, msg=f"{run.name}: {key}")


def block_names(method: nn.Module) -> Iterator[str]:
    names = {module: name for name, module in method.named_modules()}
    return (names[block] for block in blocks(method))


def test_blocks_are_the_repeated_modules_of_a_network():
    expected = {f"{network}.blocks.{i}" for network in ("backbone", "teacher.parts.0") for i in (0, 1)}
    assert set(block_names(small_method("byol", vit()))) == expected
    assert len(blocks(resnet18())) == 8
    assert blocks(small_method("simclr")) == []
    assert blocks(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])) == []
    inner = [nn.Sequential(nn.Linear(2, 2)) for _ in range(2)]
    outer = [nn.Sequential(nn.ModuleList(inner)), nn.Sequential(nn.Linear(2, 2))]
    nested = blocks(nn.Sequential(*outer))
    assert set(nested) == {*inner, *outer} and nested.index(inner[0]) < nested.index(outer[0])


@needs_fsdp2
def test_fsdp2_changes_nothing_in_a_single_process():
    case = "dino"
    one, other = (train(case, strategy) for strategy in ("fsdp2", "ddp"))
    assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.skipif(SUPPORTED, reason="needs an older torch")
def test_old_torch_is_refused():
    with pytest.raises(ConfigError, match=r"needs torch 2.13 or newer, this is .*use strategy ddp"):
        Trainer(strategy="fsdp2", device="cpu", precision="fp32")


def test_unknown_strategy_and_fp16_are_refused():
    with pytest.raises(ConfigError, match="unknown strategy 'fsdp': one of ddp, fsdp2"):
        Trainer(strategy="fsdp")
    if SUPPORTED:
        with pytest.raises(ConfigError, match="bf16 or fp32"):
            Trainer(strategy="fsdp2", device="cpu", precision="fp16")
