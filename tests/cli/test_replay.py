"""`ssl-lib replay`, on runs that are broken on purpose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ssl_lib.cli.main import main

BROKEN = """
from torch import nn
from ssl_lib import METHODS, Method, StepOutput

@METHODS.register("divides")
class Divides(Method):
    def __init__(self, backbone, *, bad: int):
        super().__init__()
        self.backbone, self.bad = backbone, bad

    def forward(self, views, progress):
        a, b = (self.backbone(view) for view in views.large)
        distance = (a - b).square().sum(1) + 1
        late = progress.step >= 5
        quotient = distance / (1 - late * (views.indices == self.bad).float())
        return StepOutput(quotient.mean(), embeddings=a.detach())
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """24 images of noise and the code of a method that divides by zero at one of them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "divides.py").write_text(BROKEN)
    for index in range(24):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def arguments(images, run, *changes):
    data = f"data={{name: image_folder, root: {images}, channels: 1}}"
    small = ["trainer={batch_size: 8, workers: 0, precision: fp32, device: cpu}", "views={preset: simclr, size: 12}"]
    schedule = "schedule={epochs: 4}"
    return [data, *small, schedule, "evaluation.every_epochs=0", "backbone.width=8", f"run_dir={run}", *changes]


def rows(text):
    """The lines of the report by their names."""
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    return {line[2:12].strip(): line[13:] for line in lines}


def test_a_division_by_zero_is_traced_to_its_line_and_image(images, tmp_path, capsys):
    run = tmp_path / "a run"
    broken = [f"imports=[{images}/divides.py]", "method={name: divides, bad: 17}"]
    assert main(["train", "quickstart", *arguments(images, run, *broken)]) == 2
    assert f"ssl-lib replay '{run}'" in capsys.readouterr().err
    record = json.loads((run / "nonfinite.json").read_text())
    assert 17 in record["indices"] and f"{images}/17.png" in record["files"] and 5 <= record["step"] <= 8

    assert main(["replay", str(run)]) == 0
    captured = capsys.readouterr()
    seen = rows(captured.out)
    assert f"step {record['step']} (epoch 3), repeated from nonfinite.pt" in captured.out
    assert seen["loss"] == "inf, as in the run"
    assert seen["forward"] == "the output of every module is finite"
    assert (
        seen["backward"].startswith("DivBackward0 of ") and "divides.py:15: quotient = distance /" in seen["backward"]
    )
    assert seen["at"] == f"1 image: 17 ({images}/17.png)"
    assert seen["view 1"].startswith("8x1x12x12, ") and seen["weights"].startswith("finite")
    assert f"ssl-lib train '{run}' --resume trainer.skip_nonfinite=3" in captured.out
    assert not captured.err

    (run / "nonfinite.pt").unlink()
    assert main(["replay", str(run)]) == 0
    captured = capsys.readouterr()
    assert "repeated from last.pt" in captured.out and rows(captured.out) == seen
    assert main(["replay", str(run), "--step", "2"]) == 0
    captured = capsys.readouterr()
    assert (
        "repeated from the run's first step" in captured.out and "Every number of this step is finite" in captured.out
    )
    assert "training 2 steps to get to step 2 again" in captured.err

    assert main(["train", str(run), "--resume", "trainer.skip_nonfinite=1"]) == 0
    assert "skipped: the loss became inf" in capsys.readouterr().err


def test_a_huge_learning_rate_is_called_divergence(images, tmp_path, capsys):
    run = tmp_path / "run"
    huge = ["optimizer={name: sgd, lr: 1.0e+30}", "method.projector_layers=2"]
    assert main(["train", "quickstart", *arguments(images, run, *huge)]) == 2
    assert main(["replay", str(run)]) == 0
    out = capsys.readouterr().out
    assert rows(out)["loss"].endswith(", as in the run")
    assert "training diverged. Start anew with a lower" in out and "skip_nonfinite" not in out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "no run at "),
        ("", [], "no bad number stopped it: name a step with --step N"),
        ("{", [], "nonfinite.json cannot be read"),
        ("", ["--step", "12"], "--step: this run has the steps 0 to 11, got 12"),
        ("", ["--step", "-1"], "--step: this run has the steps 0 to 11, got -1"),
        ('{"step": 1}', ["trainer.worker=3"], "Did you mean 'workers'"),
    ],
)
def test_what_cannot_be_replayed_is_named(content, options, message, images, tmp_path, capsys):
    run = tmp_path / "run"
    if content is not None:
        assert main(["train", "quickstart", *arguments(images, run, "schedule.epochs=4", "trainer.log_every=9")]) == 0
    if content:
        (run / "nonfinite.json").write_text(content)
    assert main(["replay", str(run), *options]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and error.splitlines()[-1].startswith("ssl-lib: error: ")
    assert "to get to step" not in error
