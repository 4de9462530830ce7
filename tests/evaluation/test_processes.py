"""Tests that protocols give the same scores in several processes as in one."""

from __future__ import annotations

import torch

from ssl_lib import ViewPipeline
from ssl_lib.evaluation import KNN, EvaluatedEncoder, FineTune, Retrieval, Spectrum
from tests.conftest import TinyBackbone, pattern_images, small_views
from tests.distributed_helper import run_processes


def measure():
    torch.manual_seed(0)
    images = pattern_images()
    pipeline = ViewPipeline(small_views("simclr"), images.mean, images.std)
    subject = EvaluatedEncoder("trained", TinyBackbone(), images, images, size=16, views=pipeline)
    found = {}
    for protocol in (KNN(k=5), Retrieval(), Spectrum(view_images=11, views=3), FineTune(epochs=2, batch_size=32)):
        scores = protocol(subject)
        found |= scores.values
        if "confusion" in scores.details:
            found[f"{type(protocol).__name__}_confusion"] = scores.details["confusion"]
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def test_several_processes_give_the_scores_of_one_process(tmp_path):
    results = run_processes(measure, (1, 2), tmp_path)
    (alone,), together = results[1], results[2]
    for each in together:
        for name, value in alone.items():
            torch.testing.assert_close(each[name], together[0][name], rtol=0, atol=0)
            if name not in ("finetune", "FineTune_confusion"):  # mixing is random per process
                torch.testing.assert_close(each[name], value, rtol=1e-6, atol=1e-6)
    assert {"knn", "map", "lidar", "finetune", "KNN_confusion"} <= set(alone)
