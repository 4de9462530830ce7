"""Tests that a config, also inside a checkpoint, runs no code except the imports of the user's own config."""

from __future__ import annotations

import pytest

from ssl_lib import CheckpointError, ConfigError, load_method
from ssl_lib.cli.common import config_folder
from ssl_lib.cli.main import main
from ssl_lib.config.load import load_config, parse_config
from ssl_lib.experiment.build import build
from ssl_lib.training.checkpoint import load_checkpoint, save_checkpoint
from tests.security.conftest import SHORT


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os.system"]
)
def test_yaml_builds_plain_values_only(tag, tmp_path, run, capsys):
    trace = tmp_path / "executed"
    value = tag if "name" in tag else f"{tag} ['touch {trace}']"
    (tmp_path / "bad.yaml").write_text(f"data: {value}\n")
    assert main(["train", str(tmp_path / "bad.yaml")]) == 2
    assert "is not readable YAML" in capsys.readouterr().err
    assert main(["train", "quickstart", f"seed={value}"]) == 2
    assert "is not readable YAML" in capsys.readouterr().err

    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    del saved["format"]
    for text in (f"data: {value}\n", "- a list\n", "seed: [1\n", 7):
        save_checkpoint(tmp_path / "gift.pt", {**saved, "config": text})
        assert main(["evaluate", str(tmp_path / "gift.pt")]) == 2
        error = capsys.readouterr().err
        assert "the config inside the checkpoint" in error and error.count("ssl-lib: error") == 1
    assert not trace.exists()


def test_name_in_a_config_refers_to_registered_components_only():
    for key in ("method", "backbone", "data", "optimizer"):
        for name in ("os.system", "torch.nn.Linear", "__import__", "ssl_lib.cli.main.main", "timm/../x"):
            with pytest.raises(ConfigError):
                _build(key, name)


def _build(key, name):
    plain = {"data": "fashion_mnist_mini", "backbone": "resnet_tiny", "method": "simclr", "optimizer": "lars"}
    build(parse_config({**plain, "views": {"preset": "simclr", "size": 28}, key: {"name": name}}))


def test_only_imports_of_the_users_own_config_run(tmp_path, run, capsys):
    (tmp_path / "own_code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    config = tmp_path / "own.yaml"
    config.write_text((config_folder() / "quickstart.yaml").read_text() + "imports: [own_code.py]\n")
    assert load_config(config).imports == (str(tmp_path / "own_code.py"),)
    assert not (tmp_path / "executed").exists(), "reading a config runs no code"

    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    saved["config"] = saved["config"].replace("imports: []", f"imports: [{tmp_path / 'own_code.py'}]")
    del saved["format"]
    save_checkpoint(tmp_path / "gift.pt", saved)
    assert main(["evaluate", str(tmp_path / "gift.pt")]) == 2
    assert "would import" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="would import"):
        load_method(tmp_path / "gift.pt")
    assert main(["train", "quickstart", *SHORT, f"backbone.weights={tmp_path}/gift.pt", f"run_dir={tmp_path}/a"]) == 0
    assert not (tmp_path / "executed").exists()
    assert main(["train", str(config), *SHORT, f"run_dir={tmp_path}/b"]) == 0
    assert (tmp_path / "executed").exists()
