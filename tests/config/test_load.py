"""Tests of reading a config and writing it back, of its defaults, and of building from it."""

from __future__ import annotations

import inspect

import pytest
import torch
import torchvision
import yaml
from torch import nn

from ssl_lib import DATASETS, METHODS, CheckpointError, Checkpoints, Loader, Method, StepOutput, Trainer
from ssl_lib.config.load import load_config, parse_config, refuse_changes, to_yaml
from ssl_lib.config.resolve import resolve
from ssl_lib.experiment.build import build
from tests.config.helper import GOOD, write_config


def test_resolved_config_reads_back_equally(tmp_path):
    config = resolve(parse_config(GOOD))
    assert config.method.arguments["hidden_dim"] == 2048, "defaults are written, too"
    again = load_config(write_config(tmp_path, to_yaml(config)))
    assert resolve(again) == config
    assert yaml.safe_load(to_yaml(config))["optimizer"]["weight_decay"] == 1e-4


def test_config_with_every_logger_reads_back_equally(tmp_path):
    config = resolve(parse_config({**GOOD, "loggers": ["tensorboard", {"name": "wandb", "run_name": "first"}]}))
    assert resolve(load_config(write_config(tmp_path, to_yaml(config)))) == config


def test_trainer_section_has_the_defaults_of_trainer_checkpoints_and_loader():
    trainer = parse_config(GOOD).trainer
    defaults = {
        name: parameter.default
        for part in (Trainer, Checkpoints, Loader)
        for name, parameter in inspect.signature(part).parameters.items()
        if name in trainer
    }
    assert {"batch_size", "precision", "save_every", "clip_norm", "debug_nonfinite"} <= defaults.keys()
    assert dict(trainer) == defaults


def test_name_of_a_component_is_enough():
    assert parse_config({**GOOD, "backbone": "resnet_tiny"}).backbone.name == "resnet_tiny"


def test_backbone_gets_its_channels_from_the_data():
    experiment = build(parse_config(GOOD))
    assert experiment.config.backbone.arguments["in_channels"] == 1
    assert next(experiment.method.backbone.parameters()).shape[1] == 1


def test_building_does_not_change_the_global_generator():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    build(parse_config(GOOD))
    assert torch.equal(before, torch.get_rng_state())


def test_run_dir_is_named_after_the_config_and_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "configs" / "cifar10"
    folder.mkdir(parents=True)
    (folder / "simclr.yaml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    assert load_config(folder / "simclr.yaml").run_dir == "runs/cifar10_simclr"
    assert load_config(write_config(tmp_path, yaml.safe_dump(GOOD))).run_dir == "runs/run"
    assert load_config(folder / "simclr.yaml", {"run_dir": "~/x"}).run_dir == str(tmp_path / "x")


def test_dry_run_passes_labels_indices_and_several_images():
    @METHODS.register("needy")
    class Needy(Method):
        def __init__(self, backbone):
            super().__init__()
            self.backbone = backbone
            self.head = nn.Linear(backbone.out_dim, 10)

        def forward(self, views, progress):
            z = self.backbone(views.large[0])
            nearest = (z @ z.T).topk(5).values.mean()
            loss = nn.functional.cross_entropy(self.head(z), views.labels) + 0 * nearest + 0 * views.indices.sum()
            return StepOutput(loss)

    build(parse_config({**GOOD, "method": "needy"}))


def test_registered_torch_data_set_is_wrapped():
    @DATASETS.register("squares")
    def squares(split="train"):
        return torchvision.datasets.FakeData(32, (3, 28, 28)) if split == "train" else None

    changes = {"trainer": {"batch_size": 16}, "evaluation": {"every_epochs": 0}}
    experiment = build(parse_config({**GOOD, "data": "squares", **changes}))
    assert len(experiment.loader.data) == 32 and experiment.loader.data.channels == 3


def test_resume_accepts_other_folders_of_data_but_not_other_data():
    before = parse_config({**GOOD, "data": {"name": "image_folder", "root": "a", "test_root": "b"}})
    moved = parse_config({**GOOD, "data": {"name": "image_folder", "root": "c", "test_root": "d"}})
    assert refuse_changes(before, moved) == ["data.root was 'a', is 'c'", "data.test_root was 'b', is 'd'"]
    with pytest.raises(CheckpointError, match=r"data\.channels"):
        refuse_changes(before, parse_config({**GOOD, "data": {"name": "image_folder", "root": "a", "channels": 1}}))


def test_resume_accepts_more_epochs_only_with_a_restart():
    before = parse_config(GOOD)
    longer = parse_config({**GOOD, "schedule": {"epochs": 3, "restart_lr": 0.2, "restarts": [[2, 0.2]]}})
    assert refuse_changes(before, longer) == ["schedule.epochs was 2, is 3", "schedule.restart_lr was 0.5, is 0.2"]
    again = parse_config({**GOOD, "schedule": {"epochs": 4, "restart_lr": 0.2, "restarts": [[2, 0.2], [3, 0.2]]}})
    assert refuse_changes(longer, again) == ["schedule.epochs was 3, is 4"]
    other = parse_config({**GOOD, "schedule": {"epochs": 4, "restart_lr": 0.2, "restarts": [[2, 0.1], [3, 0.2]]}})
    for saved, now in ((before, parse_config({**GOOD, "schedule": {"epochs": 3}})), (longer, before), (longer, other)):
        with pytest.raises(CheckpointError, match=r"schedule\.epochs was"):
            refuse_changes(saved, now)
