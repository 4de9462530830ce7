"""DDP: several processes compute the same as one process on the joined batch, for every method, in float64."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from ssl_lib import ConfigError
from ssl_lib.training.sync_batchnorm import synchronize
from tests.conftest import TinyBackbone, small_method
from tests.distributed_helper import run_processes
from tests.families import BY_FAMILY
from tests.training.ddp_helper import (
    ACCUMULATE,
    OTHERS,
    compute_all,
    evaluate,
    fit_noisy,
    normalize,
    norms,
    train,
    train_all,
    write_images,
)
from tests.training.helpers import InterruptAfter

WORLD_SIZES = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=WORLD_SIZES)
def world(request):
    """The number of processes."""
    return request.param


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_images(folder / "images")
    with pytest.raises(KeyboardInterrupt):
        fit_noisy(folder / "alone", InterruptAfter(8), dropout=0.0)
    shutil.copytree(folder / "alone", folder / str(world) / "from one")
    return run_processes(compute_all, (world,), folder, folder) | {"folder": folder}


@pytest.fixture(scope="module")
def others(world, tmp_path_factory):
    return run_processes(train_all, (world,), tmp_path_factory.mktemp("others"), OTHERS)


@pytest.mark.parametrize("accumulate", ACCUMULATE)
@pytest.mark.parametrize("name", BY_FAMILY)
def test_several_processes_train_like_one(request, world, name, accumulate):
    found = request.getfixturevalue("others" if name in OTHERS else "results")
    assert_like_one(found, world, f"{name} {accumulate}", train(name, accumulate))


def test_exact_accumulation_in_several_processes_trains_like_one(results, world):
    assert_like_one(results, world, "exact", train("simclr", accumulate=1, exact=True))


def assert_like_one(results, world, case, expected):
    for key, value in expected.items():
        parts = [result[f"{case} {key}"] for result in results[world]]
        assert all(torch.equal(part, parts[0]) for part in parts), f"{key} differs between the processes"
        error = (parts[0].double() - value.double()).norm() / value.double().norm().clamp(min=1e-3)
        assert error <= 1e-8, f"{key}: relative error {error:.1e}"


@pytest.mark.parametrize("case", norms())
def test_synchronized_batchnorm_equals_batchnorm_on_the_joined_batch(results, case, world):
    expected = {key: value for key, value in normalize(synchronized=False).items() if key.startswith(case)}
    assert len(expected) >= 3
    for key, value in expected.items():
        for rank, result in enumerate(results[world]):
            own = value[rank::world] if key.endswith(("out", "grad")) else value
            torch.testing.assert_close(result[key], own, rtol=1e-10, atol=1e-10, msg=f"{key} in process {rank}")


def test_resumed_run_of_several_processes_equals_uninterrupted_run(results, world):
    for result in results[world]:
        names = {key.partition(" ")[2] for key in result if key.startswith("resumed ")}
        assert "random" in names and len(names) > 10
        for name in names:
            assert torch.equal(result[f"resumed {name}"], result[f"uninterrupted {name}"]), name
    draws = [float(result["resumed random"]) for result in results[world]]
    assert len(set(draws)) == world  # every process has its own generator
    files = [results["folder"] / str(world) / name / "metrics.jsonl" for name in ("uninterrupted", "resumed")]
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [line["step"] for line in lines[0]] == [1, 3, 5, 7, 9, 11]  # written by one process
    assert [(line["step"], line["loss"]) for line in lines[0]] == [(line["step"], line["loss"]) for line in lines[1]]


def test_run_resumes_with_another_number_of_processes(results, world, tmp_path):
    moved = fit_noisy(results["folder"] / str(world) / "from several", resume=True, dropout=0.0)
    alone = fit_noisy(tmp_path, dropout=0.0)
    for key in alone.keys() - {"random"}:
        torch.testing.assert_close(moved[key], alone[key], rtol=1e-8, atol=1e-11, msg=key)
        for result in results[world]:
            torch.testing.assert_close(result[f"from one {key}"], alone[key], rtol=1e-8, atol=1e-11, msg=key)


def test_no_process_returns_before_the_first_has_finished_writing(results, world):
    assert all(result["written"] for result in results[world])


def test_locked_folder_is_refused_in_every_process(results, world):
    assert all(result["locked"] for result in results[world])


def test_processes_evaluate_every_image_once(results, world):
    alone = evaluate(results["folder"] / "images")
    assert alone["files"].shape == (3, 64) and alone["skipped"] == 3
    for result in results[world]:
        for key in alone.keys() - {"uneven"}:
            torch.testing.assert_close(result[key], alone[key], rtol=1e-6, atol=1e-6, msg=key)
        expected = torch.arange(world).repeat_interleave(torch.arange(world)).double()
        assert torch.equal(result["uneven"].double(), expected.unsqueeze(1).expand(-1, 2))


@pytest.mark.parametrize("at_once", [True, False])
def test_nan_loss_in_one_process_stops_all_and_its_images_are_reported(results, world, at_once):
    assert all(result[f"nan {at_once}"].all() for result in results[world])


def test_batch_normalization_with_its_own_forward_is_refused():
    class NormAndRectify(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    method = small_method("simclr", TinyBackbone(norm=NormAndRectify(16)))
    with pytest.raises(ConfigError, match=r"backbone.1 is a NormAndRectify.*sync_batchnorm = False"):
        synchronize(method, torch.device("cpu"))
    synchronize(small_method("simclr"), torch.device("cpu"))
