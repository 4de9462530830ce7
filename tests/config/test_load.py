"""Strict configs: what is wrong is named, before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torchvision
import yaml
from torch import nn

from ssl_lib import DATASETS, METHODS, CheckpointError, ConfigError, Method, StepOutput
from ssl_lib.config.load import load_config, parse_config, refuse_changes, to_yaml
from ssl_lib.config.resolve import resolve
from ssl_lib.experiment.build import build

ROOT = Path(__file__).parents[2]
GOOD = {
    "data": {"name": "fashion_mnist_mini"},
    "backbone": {"name": "resnet_tiny"},
    "method": {"name": "simclr", "temperature": 0.2},
    "views": {"preset": "simclr", "size": 28},
    "optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1.0e-4},
    "schedule": {"epochs": 2},
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.temprature=0.1", r"unknown key 'method.temprature'. Did you mean 'temperature'"),
        ("method.name=simcrl", r"unknown method 'simcrl'. Did you mean 'simclr'"),
        ("backbone.name=resnet_tyni", r"unknown backbone 'resnet_tyni'. Did you mean 'resnet_tiny'"),
        ("data.name=fashion", r"unknown data set 'fashion'. Did you mean 'fashion_mnist'"),
        ("optimizer.name=lamb", r"unknown optimizer 'lamb'.*Known: adamw, lars, sgd"),
        ("views.preset=simcrl", r"unknown view preset 'simcrl'. Did you mean 'simclr'"),
        ("views.sise=32", r"unknown key 'views.sise'. Did you mean 'size'"),
        ("views.blur_p=2", r"views: .*blur_p.*2"),
        ("views.crop_scale=[0.5]", r"views.crop_scale: expected 2 values, got 1"),
        ("views.interpolation=nearest", r"views.interpolation: unknown value 'nearest'"),
        ("optimizer.lr=1e-3", r"optimizer.lr: expected a number, got '1e-3' \(text\); .*write 0.001"),
        ("optimizer.weight_decay=1e-6", r"optimizer.weight_decay: .*write 1.0e-06"),
        ("optimizer.lr=fast", r"optimizer.lr: expected a number, got 'fast'"),
        ("optimizer.lr=null", r"optimizer.lr: expected a number, got None"),
        ("method.temperature=-1", r"method simclr: temperature must be positive"),
        ("schedule.epochs=0", r"schedule: epochs must be above 0"),
        ("schedule.warmup_epochs=2", r"schedule: warmup_epochs .*smaller than epochs"),
        ("schedule.epoch=5", r"unknown key 'schedule.epoch'. Did you mean 'epochs'"),
        ("trainer.precision=fp8", r"trainer.precision: unknown value 'fp8'"),
        ("trainer.batch_size=16.5", r"trainer.batch_size: expected an integer, got 16.5"),
        ("trainer.batch_size=0", r"trainer: batch_size must be at least 1"),
        ("trainer.accumulate=3", r"batch_size 256 cannot be divided by accumulate 3: .* are 255 and 258"),
        ("trainer.compile=1", r"trainer.compile: expected true or false, got 1"),
        ("trainer.clip_norm=0", r"trainer: clip_norm must be above 0"),
        ("trainer.device=tpu", r"device 'tpu'"),
        ("evaluation.knn.k=0", r"evaluation.knn: k must be at least 1"),
        ("evaluation.knn=5", r"evaluation.knn: expected a mapping, got 5"),
        ("evaluation.linear.labels_per_class=1", r"evaluation.linear: labels_per_class must be at least 2"),
        ("seed=zero", r"seed: expected an integer, got 'zero'"),
        ("sede=1", r"unknown key 'sede'. Did you mean 'seed'"),
        ("method=[simclr]", r"method: expected a name and arguments"),
        ("views=3", r"views: expected mapping or list"),
        ("views=[{siez: 28}]", r"unknown key 'views\[0\].siez'. Did you mean 'size'"),
        ("imports=[no_such_module]", r"imports: cannot import 'no_such_module'"),
        ("trainer.device.index=0", r"cannot override 'trainer.device.index': 'device' is 'cpu'"),
        ("batch_size", r"cannot read the override 'batch_size': write key=value"),
        ("seed=[1", r"the value of seed=\[1 is not readable YAML"),
        ("views.weights=1", r"unknown key 'views.weights'"),
        ("views.preset=dino", r"views: small_size must be below"),
        ("views={preset: dino, size: 28, small_count: 2, small_size: 12}", r"compares two views of each image"),
        ("method={name: byol, momentum: 1.5}", r"EMA momentum must lie in \[0, 1\], got 1.5"),
        ("method={name: dino, num_prototypes: 8, teacher_temperature: 0}", r"teacher_temperature must be positive"),
        ("method.projector_layers=0", r"projector_layers must be at least 1"),
        ("seed=-1", r"seed must lie in"),
        ("optimizer.lr=-1", r"optimizer: lr must be at least 0"),
        ("optimizer.weight_decay=-1", r"optimizer: .*weight.decay"),
        ("trainer.clip_per_parameter=true", r"clip_per_parameter needs a clip_norm"),
        ("trainer.clip_norm=.nan", r"clip_norm must be above 0"),
        ("evaluation.knn.temperature=.nan", r"temperature must be above 0"),
        ("evaluation.knn.k=7000", r"evaluation: knn.k 7000 is more than the 6000"),
        ("evaluation.linear.labels_per_class=601", r"evaluation: class 0 has 600 labeled images"),
        ("backbone={name: vit_micro, patch_size: 5}", r"28.*patch|patch.*28"),
        ("imports={000..146}.tar", r"(?s)not readable YAML.*a text with braces needs quotes, as in"),
        (
            "data={name: webdataset, urls: a/train-{0..9}.tar}",
            r"(?s)not readable YAML.*a text with braces needs quotes",
        ),
        ("data={name: arrays, path: a", r"(?s)not readable YAML((?!quotes).)*$"),
        ("data.root=x", r"fashion_mnist_mini takes no arguments; .* would take root"),
        ("seed=2024-99-99", r"the value of seed=2024-99-99 is not readable YAML"),
        ("imports=mine.py", r"imports: expected a list, got 'mine.py'"),
        ("imports=[nowhere.py]", r"imports: there is no file"),
    ],
)
def test_bad_values_are_named(override, message):
    values = {**GOOD, "trainer": {"device": "cpu"}}
    with pytest.raises(ConfigError, match=message):
        build(parse_config(values, [override]))


@pytest.mark.parametrize("key", ["data", "backbone", "method", "optimizer", "views"])
def test_missing_sections_are_named(key):
    with pytest.raises(ConfigError, match=f"missing key '{key}'"):
        parse_config({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("- a\n- b\n", "must hold a mapping"),
        ("seed: [1\n", "is not readable YAML"),
        ("", "must hold a mapping"),
        ("seed: !!python/object/apply:os.system ['true']\n", "is not readable YAML"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"cannot read the config nowhere.yaml"):
        load_config("nowhere.yaml")


def test_overrides_reach_every_depth():
    config = parse_config(
        GOOD, ["seed=3", "evaluation.knn.k=5", "method=byol", "method.momentum=0.9", "views.blur_p=0"]
    )
    assert (config.seed, config.evaluation.protocols["knn"]["k"], config.method.name) == (3, 5, "byol")
    config = resolve(config)
    assert config.method.arguments["momentum"] == 0.9
    assert all(view["blur_p"] == 0.0 for view in config.views)


def test_the_resolved_config_reads_back_as_itself(tmp_path):
    config = resolve(parse_config(GOOD))
    assert config.method.arguments["hidden_dim"] == 2048, "defaults are written out"
    again = load_config(write(tmp_path, to_yaml(config)))
    assert resolve(again) == config
    assert yaml.safe_load(to_yaml(config))["optimizer"]["weight_decay"] == 1e-4


def test_a_config_with_every_logger_reads_back_as_itself(tmp_path):
    config = resolve(parse_config({**GOOD, "loggers": ["tensorboard", {"name": "wandb", "run_name": "first"}]}))
    assert resolve(load_config(write(tmp_path, to_yaml(config)))) == config


def test_a_part_with_an_argument_called_name_is_refused(tmp_path):
    (tmp_path / "named.py").write_text(
        "from ssl_lib import METHODS, SimCLR\n\n@METHODS.register('named')\nclass Named(SimCLR):\n"
        "    def __init__(self, backbone, *, name: str = 'x') -> None:\n        super().__init__(backbone)\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"method: named has an argument called name, .*rename it"):
        resolve(parse_config({**GOOD, "imports": ["named.py"], "method": "named"}, folder=tmp_path))


def test_a_parts_name_alone_will_do():
    assert parse_config({**GOOD, "backbone": "resnet_tiny"}).backbone.name == "resnet_tiny"


def test_the_backbone_takes_channels_from_the_data():
    experiment = build(parse_config(GOOD))
    assert experiment.config.backbone.arguments["in_channels"] == 1
    assert next(experiment.method.backbone.parameters()).shape[1] == 1


def test_a_file_named_in_imports_registers_its_method(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ssl_lib import METHODS, SimCLR\n\n\n@METHODS.register('mine')\nclass Mine(SimCLR):\n    pass\n",
        encoding="utf-8",
    )
    text = yaml.safe_dump({**GOOD, "method": {"name": "mine", "temperature": 0.3}, "imports": ["mine.py"]})
    experiment = build(load_config(write(tmp_path, text)))
    assert type(experiment.method).__name__ == "Mine"
    assert experiment.method.loss.temperature == 0.3


def test_a_preset_and_an_optimizer_of_ones_own_need_no_defaults(tmp_path):
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


def test_a_default_that_yaml_cannot_express_stays_with_its_constructor(tmp_path):
    (tmp_path / "odd_default.py").write_text(
        "from torch import nn\nfrom ssl_lib import METHODS, SimCLR\n\n"
        "@METHODS.register('odd')\nclass Odd(SimCLR):\n"
        "    def __init__(self, backbone, *, act: type[nn.Module] = nn.ReLU, width: int = 8) -> None:\n"
        "        super().__init__(backbone, hidden_dim=width)\n        self.act = act\n",
        encoding="utf-8",
    )
    experiment = build(parse_config({**GOOD, "imports": ["odd_default.py"], "method": "odd"}, folder=tmp_path))
    assert yaml.safe_load(to_yaml(experiment.config))["method"] == {"name": "odd", "width": 8}


def test_building_leaves_the_global_generator_alone():
    import torch

    torch.manual_seed(123)
    before = torch.get_rng_state()
    build(parse_config(GOOD))
    assert torch.equal(before, torch.get_rng_state())


def test_run_dir_names_the_data_set_and_expands_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "configs" / "cifar10"
    folder.mkdir(parents=True)
    (folder / "simclr.yaml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    assert load_config(folder / "simclr.yaml").run_dir == "runs/cifar10_simclr"
    assert load_config(write(tmp_path, yaml.safe_dump(GOOD))).run_dir == "runs/run"
    assert load_config(folder / "simclr.yaml", ["run_dir=~/x"]).run_dir == str(tmp_path / "x")


CONFIGS = sorted((ROOT / "configs").rglob("*.yaml")) + sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_resolves_and_its_method_builds(path):
    """All but the data, which may not be on this machine."""
    import torch

    from ssl_lib.registry import BACKBONES, METHODS

    config = resolve(load_config(path))
    with torch.device("meta"):
        backbone = BACKBONES[config.backbone.name](**config.backbone.arguments)
        METHODS[config.method.name](backbone, **config.method.arguments)


def test_there_are_configs_for_every_method():
    names = {
        str(path.relative_to(ROOT / "configs").with_suffix("")) for path in CONFIGS if "examples" not in path.parts
    }
    methods = ["simclr", "byol", "simsiam", "barlow_twins", "vicreg", "dino"]
    assert {f"{data}/{method}" for data in ("fashion_mnist", "cifar10") for method in methods} <= names
    assert {"quickstart", "imagenet/simclr", "imagenet/dino"} <= names


def test_the_rehearsal_has_labels_indices_and_several_images():
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


def test_a_registered_torch_data_set_is_wrapped():
    @DATASETS.register("squares")
    def squares(split="train"):
        return torchvision.datasets.FakeData(32, (3, 28, 28)) if split == "train" else None

    built = build(
        parse_config({**GOOD, "data": "squares", "trainer": {"batch_size": 16}, "evaluation": {"every_epochs": 0}})
    )
    assert len(built.loader.data) == 32 and built.loader.data.channels == 3


def test_where_data_lie_may_change_at_a_resume():
    before = parse_config({**GOOD, "data": {"name": "image_folder", "root": "a", "test_root": "b"}})
    moved = parse_config({**GOOD, "data": {"name": "image_folder", "root": "c", "test_root": "d"}})
    refuse_changes(before, moved)
    with pytest.raises(CheckpointError, match=r"data\.channels"):
        refuse_changes(before, parse_config({**GOOD, "data": {"name": "image_folder", "root": "a", "channels": 1}}))
