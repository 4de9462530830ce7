"""Exact accumulation (GradCache): the gradient of the whole batch, with the memory of a micro-batch."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_lib import LARS, METHODS, ConfigError, Loader, Schedule, Trainer
from ssl_lib.config.load import load_config
from ssl_lib.experiment.build import build
from ssl_lib.training.gradcache import computed_in_chunks
from tests.conftest import TinyBackbone, images_for, pattern_images, small_method, small_views
from tests.training.helpers import DoubleViews

ROOT = Path(__file__).parents[2]


def train(name, accumulate, exact):
    images = images_for(name)
    loader = Loader(images, DoubleViews(small_views(name), images.mean, images.std), batch_size=32)
    torch.manual_seed(1)
    method = small_method(name, TinyBackbone(norm=nn.GroupNorm(4, 16))).double()
    trainer = Trainer(device="cpu", precision="fp32", callbacks=[], accumulate=accumulate, exact=exact)
    trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.5), Schedule(epochs=1))
    return method.state_dict()


@pytest.mark.parametrize("name", METHODS)
def test_exact_accumulation_trains_like_the_whole_batch(name):
    whole, exact = train(name, 1, False), train(name, 4, True)
    for key, value in whole.items():
        torch.testing.assert_close(exact[key], value, rtol=1e-9, atol=1e-12, msg=key)


def test_plain_accumulation_changes_a_loss_that_compares_images():
    whole, plain = train("simclr", 1, False), train("simclr", 4, False)
    assert any((whole[key] - value).abs().max() > 1e-4 for key, value in plain.items())


def test_network_is_restored_after_an_error():
    network = TinyBackbone(norm=nn.GroupNorm(4, 16))
    before = dict(network.__dict__)
    with pytest.raises(KeyboardInterrupt), computed_in_chunks([network], 2):
        raise KeyboardInterrupt
    assert network.__dict__ == before


def test_patched_forward_is_kept_and_a_copy_uses_its_own_weights():
    network, x = TinyBackbone(norm=nn.GroupNorm(4, 16)), torch.rand(4, 1, 16, 16)
    with computed_in_chunks([network], 2):
        other = copy.deepcopy(network)
        nn.init.zeros_(other[1].weight)
        nn.init.zeros_(other[1].bias)
        assert other(x).abs().max() == 0 < network(x).abs().max()
    plain = network(x)
    network.forward = lambda images: 2 * TinyBackbone.forward(network, images)
    with computed_in_chunks([network], 2):
        torch.testing.assert_close(network(x), 2 * plain)
    torch.testing.assert_close(network(x), 2 * plain)


def test_batch_normalization_is_refused_before_training():
    method = small_method("simclr")
    loader = Loader(pattern_images(), DoubleViews(small_views("simclr"), [0.5], [0.5]), batch_size=32)
    trainer = Trainer(callbacks=[], accumulate=2, exact=True)
    with pytest.raises(ValueError, match="1 of TinyBackbone normalizes by batch statistics"):
        trainer.fit(method, loader, LARS(method.param_groups(0.0), lr=0.1))
    config = load_config(ROOT / "configs" / "quickstart.yaml", {"trainer.accumulate": 2, "trainer.exact": True})
    with pytest.raises(ConfigError, match=r"trainer.exact: .*vision transformer"):
        build(config)


MEMORY = """
import re, sys, torch
from ssl_lib import BACKBONES, LARS, Loader, Schedule, SimCLR, Trainer, ViewPipeline, views
from ssl_lib.data import ArrayData
torch.set_num_threads(1)
def peak():  # in KiB; getrusage would include the peak of the parent process
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
images = ArrayData(torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8), mean=(0.5,) * 3, std=(0.25,) * 3)
loader = Loader(images, ViewPipeline(views.presets.simclr(64), images.mean, images.std), batch_size=64)
method = SimCLR(BACKBONES["vit_tiny"](image_size=64, patch_size=8), hidden_dim=64)
before = peak()
trainer = Trainer(device="cpu", precision="fp32", callbacks=[], accumulate=int(sys.argv[1]), exact="exact" in sys.argv)
trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), Schedule(epochs=1))
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_is_close_to_that_of_one_micro_batch():
    def peak(*arguments):
        command = [sys.executable, "-c", MEMORY, *arguments]
        # Freed blocks are returned immediately, so that heap fragmentation does not change the peak.
        heap = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
        environment = {**os.environ, **heap, "PYTHONPATH": str(ROOT)}
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    whole, micro, exact = peak("1"), peak("8"), peak("8", "exact")
    assert exact < 1.3 * micro < 0.5 * whole
