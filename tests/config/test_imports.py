"""Tests of `imports`: components in a user's own file."""

from __future__ import annotations

import pytest
import yaml

from ssl_lib import ConfigError
from ssl_lib.config.load import load_config, parse_config, to_yaml
from ssl_lib.config.resolve import resolve
from ssl_lib.experiment.build import build
from tests.config.helper import GOOD, write_config


def test_imported_file_registers_its_method(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ssl_lib import METHODS, SimCLR\n\n\n@METHODS.register('mine')\nclass Mine(SimCLR):\n    pass\n",
        encoding="utf-8",
    )
    text = yaml.safe_dump({**GOOD, "method": {"name": "mine", "temperature": 0.3}, "imports": ["mine.py"]})
    experiment = build(load_config(write_config(tmp_path, text)))
    assert type(experiment.method).__name__ == "Mine"
    assert experiment.method.loss.temperature == 0.3


def test_own_preset_and_optimizer_need_no_default_arguments(tmp_path):
    (tmp_path / "own_parts.py").write_text(
        "import torch\nfrom ssl_lib import OPTIMIZERS, PRESETS, ViewConfig\n\n"
        "@PRESETS.register('mine')\ndef mine(size: int):\n    return [ViewConfig(count=2, size=size)]\n\n"
        "@OPTIMIZERS.register('adagrad')\ndef adagrad(params):\n    return torch.optim.Adagrad(params)\n",
        encoding="utf-8",
    )
    values = {**GOOD, "imports": ["own_parts.py"], "views": {"preset": "mine", "size": 20}, "optimizer": "adagrad"}
    experiment = build(parse_config(values, folder=tmp_path))
    assert experiment.loader.views.size == 20
    assert type(experiment.optimizer).__name__ == "Adagrad"


def test_default_that_yaml_cannot_express_is_left_to_the_constructor(tmp_path):
    (tmp_path / "odd_default.py").write_text(
        "from torch import nn\nfrom ssl_lib import METHODS, SimCLR\n\n"
        "@METHODS.register('odd')\nclass Odd(SimCLR):\n"
        "    def __init__(self, backbone, *, act: type[nn.Module] = nn.ReLU, width: int = 8) -> None:\n"
        "        super().__init__(backbone, hidden_dim=width)\n        self.act = act\n",
        encoding="utf-8",
    )
    experiment = build(parse_config({**GOOD, "imports": ["odd_default.py"], "method": "odd"}, folder=tmp_path))
    assert yaml.safe_load(to_yaml(experiment.config))["method"] == {"name": "odd", "width": 8}


def test_annotation_for_type_checkers_only_does_not_turn_off_the_checks(tmp_path):
    (tmp_path / "lazy.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom ssl_lib import METHODS, SimCLR\n\n"
        "if TYPE_CHECKING:\n    from somewhere import Head\n\n"
        "@METHODS.register('lazy')\nclass Lazy(SimCLR):\n"
        "    def __init__(self, backbone, *, width: int = 8, head: Head | None = None) -> None:\n"
        "        super().__init__(backbone, hidden_dim=width)\n",
        encoding="utf-8",
    )
    values = {**GOOD, "imports": ["lazy.py"]}
    resolve(parse_config({**values, "method": {"name": "lazy", "head": "any value"}}, folder=tmp_path))
    with pytest.raises(ConfigError, match=r"method\.width: expected an integer, got 'wide'"):
        resolve(parse_config({**values, "method": {"name": "lazy", "width": "wide"}}, folder=tmp_path))


def test_argument_called_name_is_refused(tmp_path):
    (tmp_path / "named.py").write_text(
        "from ssl_lib import METHODS, SimCLR\n\n@METHODS.register('named')\nclass Named(SimCLR):\n"
        "    def __init__(self, backbone, *, name: str = 'x') -> None:\n        super().__init__(backbone)\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"method: named has an argument called name, .*: rename the argument"):
        resolve(parse_config({**GOOD, "imports": ["named.py"], "method": "named"}, folder=tmp_path))
