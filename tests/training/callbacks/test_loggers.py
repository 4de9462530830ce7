"""TensorBoard and Weights & Biases get the same lines as metrics.jsonl, once each, also after a resume."""

from __future__ import annotations

import math

import pytest

from ssl_lib import ConfigError, Schedule, Trainer
from ssl_lib.cli.main import main
from ssl_lib.optim import LARS
from ssl_lib.training.callbacks import Checkpoints, MetricsLog, TensorBoardLog, WandbLog
from ssl_lib.utils.optional import needs
from tests.training.helpers import InterruptAfter, read_lines


def train(folder, make_method, make_loader, logger, *more, resume=False):
    method = make_method("simclr")
    checkpoints = Checkpoints(folder / "checkpoints", save_every=1)
    callbacks = [MetricsLog(folder / "metrics.jsonl"), checkpoints, logger, *more]
    trainer = Trainer(folder, device="cpu", precision="fp32", log_every=1, callbacks=callbacks)
    trainer.fit(method, make_loader(), LARS(method.param_groups(0.0), lr=0.1), Schedule(epochs=3), resume=resume)
    return read_lines(folder / "metrics.jsonl")


def test_tensorboard_has_every_line_once(make_method, make_loader, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    middle = make_loader().steps_per_epoch + 2  # after the first checkpoint
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, make_method, make_loader, TensorBoardLog(tmp_path), InterruptAfter(middle))
    lines = train(tmp_path, make_method, make_loader, TensorBoardLog(tmp_path), resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("loss", "lr", "epoch"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in points] == [line["step"] for line in lines]
        assert all(
            math.isclose(value, line[name], rel_tol=1e-6) for (_, value), line in zip(points, lines, strict=True)
        )


def test_wandb_writes_one_offline_run(make_method, make_loader, tmp_path):
    wandb = pytest.importorskip("wandb")
    train(tmp_path, make_method, make_loader, WandbLog(tmp_path))
    wandb.teardown()  # writes what is pending, as at the end of the process
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = path.read_bytes()
    assert content.count(b"images_per_second") >= 9 and b"ssl_lib" in content


def test_config_selects_loggers_and_an_unknown_one_is_refused(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    short = ["schedule={epochs: 0.05, warmup_epochs: 0}", "evaluation.every_epochs=0", "backbone.width=8"]
    logged = "loggers=[{name: tensorboard, flush_seconds: 1}]"
    assert main(["train", "quickstart", *short, logged, f"run_dir={tmp_path / 'run'}"]) == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert main(["train", "quickstart", *short, "loggers=[tensorbored]", f"run_dir={tmp_path / 'bad'}"]) == 2
    assert "unknown logger 'tensorbored'. Did you mean 'tensorboard'?" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_error_names_a_missing_package():
    with (
        pytest.raises(ConfigError, match="the logger dodo needs dodo: pip install 'dodo>=2'"),
        needs("dodo>=2", "the logger dodo"),
    ):
        import dodo  # noqa: F401
