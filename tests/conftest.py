"""Fixtures and small networks, images and views that many tests share."""

from __future__ import annotations

import inspect
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # the tensors are small: threads would only wait for each other

import pytest
import torch
from torch import nn

from ssl_lib import METHODS, Loader, Method, ViewPipeline, views
from ssl_lib.config.networks import network_arguments
from ssl_lib.data import ArrayData
from ssl_lib.registry import BACKBONES, DATASETS, OPTIMIZERS, PRESETS, PROTOCOLS
from ssl_lib.utils.warn_once import forget_warnings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs ignore SIGINT

SMALL = {
    "hidden_dim": 32,
    "out_dim": 16,
    "dim": 8,
    "predictor_dim": 8,
    "bottleneck_dim": 16,
    "num_prototypes": 32,
    "num_images": 96,
    "num_classes": 4,
    "num_clusters": 8,
    "granularities": (8, 12),
    "num_negatives": 4,
    "warmup_epochs": 0,
    "num_permutations": 6,
    "tile_dim": 8,
    "queue_size": 48,
    "queue_epoch": 0,
    "num_slices": 64,
    "image_mean": (0.5,),
    "image_std": (0.25,),
}


class TinyBackbone(nn.Sequential):
    """Convolution, norm (default: BatchNorm), ReLU and average pooling: (N, C, H, W) -> (N, 16)."""

    out_dim = 16

    def __init__(self, in_channels: int = 1, norm: nn.Module | None = None) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16) if norm is None else norm,
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


@contextmanager
def full_disk(largest_file: int) -> Iterator[None]:
    """Simulates a full disk: writing fails once a file of this process would exceed `largest_file` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Lets this process reserve at most `more` further bytes: larger allocations fail."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--soak-steps` for tests/training/test_soak.py, and `--rest` for `.ci/run`."""
    parser.addoption("--soak-steps", type=int, default=300, help="number of updates in the soak tests (slow)")
    parser.addoption("--rest", action="store_true", help="with -m '': slow tests and tests that the last run skipped")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Stores the skipped tests, for instance because a package is missing."""
    if hasattr(config, "cache"):
        config.cache.set("skipped", [report.nodeid for report in terminalreporter.stats.get("skipped", [])])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--rest`, deselects the tests that the last run without it has completed."""
    if config.getoption("rest"):
        skipped = set(config.cache.get("skipped", []))
        done = {item for item in items if item.nodeid not in skipped and not item.get_closest_marker("slow")}
        items[:] = [item for item in items if item not in done]
        config.hook.pytest_deselected(items=list(done))


@pytest.fixture(scope="session", autouse=True)
def session_working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs session and module fixtures in a temporary directory: they must not read or write the checkout."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("session_cwd"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def working_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every test in an empty temporary directory of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def shown_warnings() -> None:
    """Lets every test see the warnings that are shown once per process."""
    forget_warnings()


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes the components that a test registers and the modules that its configs import."""
    for registry in (BACKBONES, DATASETS, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS):
        monkeypatch.setattr(registry, "_parts", {name: registry[name] for name in registry})
    before, path = set(sys.modules), list(sys.path)
    yield
    added = set(sys.path) - set(path)
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(Path(getattr(sys.modules[name], "__file__", None) or "").parent) in added:
            del sys.modules[name]


@pytest.fixture
def images() -> ArrayData:
    """See `pattern_images`."""
    return pattern_images()


def pattern_images(channels: int = 1) -> ArrayData:
    """96 images of 16 x 16 pixels in 4 classes: one pattern per class, plus noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 4
    patterns = torch.rand(4, channels, 16, 16, generator=generator)
    noise = torch.rand(96, channels, 16, 16, generator=generator)
    pixels = (255 * (0.6 * patterns[labels] + 0.4 * noise)).to(torch.uint8)
    return ArrayData(pixels, labels, ("a", "b", "c", "d"), mean=(0.5,) * channels, std=(0.25,) * channels)


def channels_for(method: str) -> int:
    """Channels of the images for the tests of a method: 3 if it needs colors, else 1."""
    return 3 if method in METHODS and getattr(METHODS[method], "colors", False) else 1


def images_for(method: str) -> ArrayData:
    """See `pattern_images`; in colors if the method needs them."""
    return pattern_images(channels_for(method))


@pytest.fixture
def make_loader(images: ArrayData) -> Callable[..., Loader]:
    """Returns a function that builds a loader with the small views of a preset."""

    def make(preset: str = "simclr", batch_size: int = 32, seed: int = 0) -> Loader:
        data = images if channels_for(preset) == 1 else images_for(preset)
        return Loader(data, ViewPipeline(small_views(preset), data.mean, data.std), batch_size, seed=seed)

    return make


def small_views(preset: str) -> list[views.ViewConfig]:
    """The view preset of a method at 16 pixels; SimCLR's preset if the method has none."""
    make = PRESETS[preset if preset in PRESETS else "simclr"]
    small = {"small_size": 8, "small_count": 2} if "small_size" in inspect.signature(make).parameters else {}
    return make(size=16, **small)


@pytest.fixture
def make_method() -> Callable[..., Method]:
    """See `small_method`."""
    return small_method


def small_method(name: str, backbone: nn.Module | None = None, **arguments: object) -> Method:
    """Builds a registered method with small widths, by default on the tiny backbone."""
    torch.manual_seed(0)
    build = METHODS[name]
    small = {key: value for key, value in SMALL.items() if key in inspect.signature(build).parameters}
    small |= {key: TinyBackbone() for key in network_arguments(build)}
    return build(TinyBackbone() if backbone is None else backbone, **{**small, **arguments})
