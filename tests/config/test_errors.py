"""Tests that wrong keys and values of a config are named before anything is built."""

from __future__ import annotations

import pytest

from ssl_lib import ConfigError
from ssl_lib.cli.common import parse_changes
from ssl_lib.config.load import load_config, parse_config
from ssl_lib.experiment.build import build
from tests.config.helper import GOOD, write_config

DID_YOU_MEAN = [
    ("method.temprature=0.1", r"unknown key 'method.temprature'. Did you mean 'method.temperature'"),
    ("method.name=simcrl", r"unknown method 'simcrl'. Did you mean 'simclr'"),
    ("backbone.name=resnet_tyni", r"unknown backbone 'resnet_tyni'. Did you mean 'resnet_tiny'"),
    ("data.name=fashion", r"unknown data set 'fashion'. Did you mean 'fashion_mnist'"),
    ("optimizer.name=lamb", r"unknown optimizer 'lamb'.*Known: adamw, lars, sgd"),
    ("views.preset=simcrl", r"unknown view preset 'simcrl'. Did you mean 'simclr'"),
    ("views.sise=32", r"unknown key 'views.sise'. Did you mean 'views.size'"),
    ("views.weights=1", r"unknown key 'views.weights'"),
    ("views=[{siez: 28}]", r"unknown key 'views\[0\].siez'. Did you mean 'views\[0\].size'"),
    ("schedule.epoch=5", r"unknown key 'schedule.epoch'. Did you mean 'schedule.epochs'"),
    ("trainer.log_evry=5", r"unknown key 'trainer.log_evry'. Did you mean 'trainer.log_every'"),
    ("evaluation.kn={}", r"unknown key 'evaluation.kn'. Did you mean 'evaluation.knn'"),
    ("sede=1", r"unknown key 'sede'. Did you mean 'seed'"),
    ("data.root=x", r"fashion_mnist_mini takes no arguments; 'root' is an argument of "),
]

TYPES = [
    ("views.crop_scale=[0.5]", r"views.crop_scale: expected 2 values, got 1"),
    ("views.interpolation=nearest", r"views.interpolation: unknown value 'nearest'"),
    (
        "optimizer.lr='1e-3'",
        r"optimizer.lr: expected a number, got '1e-3' \(text\); without quotes it is a number: 1e-3",
    ),
    ("optimizer.lr=fast", r"optimizer.lr: expected a number, got 'fast'"),
    ("optimizer.lr=null", r"optimizer.lr: expected a number, got None \(null\)"),
    ("trainer.precision=fp8", r"trainer.precision: unknown value 'fp8'"),
    ("trainer.batch_size=16.5", r"trainer.batch_size: expected an integer, got 16.5"),
    ("trainer.batch_size='16'", r"trainer.batch_size: expected an integer, got '16' \(text\); without quotes"),
    ("trainer.workers=two", r"trainer.workers: expected an integer, got 'two'"),
    ("trainer.compile=1", r"trainer.compile: expected true or false, got 1"),
    ("trainer=fast", r"trainer: expected a mapping, got 'fast'"),
    ("evaluation.knn=5", r"evaluation.knn: expected a mapping, got 5"),
    ("seed=zero", r"seed: expected an integer, got 'zero'"),
    ("seed=2024-99-99", r"seed: expected an integer, got '2024-99-99'"),
    ("seed=no", r"seed: expected an integer, got 'no' \(text\)"),
    ("method=[simclr]", r"method: expected a name and arguments"),
    ("views=3", r"views: expected a mapping or a list"),
    ("imports=mine.py", r"imports: expected a list, got 'mine.py'"),
    ("run_dir=5", r"run_dir: expected text, got 5 \(an integer\); in quotes it is text: '5'"),
    ("trainer.device.index=0", r"cannot set 'trainer.device.index': 'device' is 'cpu', not a mapping"),
]

RANGES = [
    ("views.blur_p=2", r"views: .*blur_p.*2"),
    ("views.preset=dino", r"views: small_size must be less than the size of the large views"),
    ("views={preset: dino, size: 28, small_count: 2, small_size: 12}", r"compares two views of each image"),
    ("method.temperature=-1", r"method simclr: temperature must be positive"),
    ("method={name: byol, momentum: 1.5}", r"EMA momentum must be in \[0, 1\], got 1.5"),
    ("method={name: dino, num_prototypes: 8, teacher_temperature: 0}", r"teacher_temperature must be positive"),
    ("method.projector_layers=0", r"projector_layers must be at least 1"),
    ("schedule.epochs=0", r"schedule: epochs must be above 0"),
    ("schedule.warmup_epochs=2", r"schedule: warmup_epochs .*smaller than epochs"),
    ("optimizer.lr=-1", r"optimizer: lr must be at least 0"),
    ("optimizer.weight_decay=-1", r"optimizer: .*weight.decay"),
    ("trainer.batch_size=0", r"trainer: batch_size must be at least 1"),
    ("trainer.accumulate=3", r"batch_size 256 cannot be divided by accumulate 3: .* are 255 and 258"),
    ("trainer.clip_norm=0", r"trainer: clip_norm must be above 0"),
    ("trainer.clip_norm=.nan", r"clip_norm must be above 0"),
    ("trainer.clip_per_parameter=true", r"trainer: clip_norm must be above 0, and clip_per_parameter needs one"),
    ("trainer.device=tpu", r"device 'tpu'"),
    ("evaluation.knn.k=0", r"evaluation.knn: k must be at least 1"),
    ("evaluation.knn.k=7000", r"evaluation: knn.k 7000 is more than the 6000"),
    ("evaluation.knn.temperature=.nan", r"temperature must be above 0"),
    ("evaluation.linear.labels_per_class=1", r"evaluation.linear: labels_per_class must be at least 2"),
    ("evaluation.linear.labels_per_class=601", r"evaluation: class 0 has 600 labeled images"),
    ("seed=-1", r"seed must be in"),
    ("backbone={name: vit_micro, patch_size: 5}", r"28.*patch|patch.*28"),
]

OTHERS = [
    ("imports=[no_such_module]", r"imports: cannot import 'no_such_module'"),
    ("imports=[nowhere.py]", r"imports: there is no file"),
    ("batch_size", r"cannot read 'batch_size': write key=value"),
    ("seed=[1", r"the value of seed=\[1 is not readable YAML"),
    ("imports={000..146}.tar", r"(?s)not readable YAML.*a text with braces needs quotes, as in"),
    ("data={name: webdataset, urls: a/train-{0..9}.tar}", r"(?s)not readable YAML.*a text with braces needs quotes"),
    ("data={name: arrays, path: a", r"(?s)not readable YAML((?!quotes).)*$"),
]


@pytest.mark.parametrize(("change", "message"), [*DID_YOU_MEAN, *TYPES, *RANGES, *OTHERS])
def test_wrong_keys_and_values_are_named(change, message):
    values = {**GOOD, "trainer": {"device": "cpu"}}
    with pytest.raises(ConfigError, match=message):
        build(parse_config(values, parse_changes([change])))


@pytest.mark.parametrize("key", ["data", "backbone", "method", "optimizer", "views"])
def test_missing_section_is_named(key):
    with pytest.raises(ConfigError, match=f"missing key '{key}'"):
        parse_config({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("- a\n- b\n", "must hold a mapping of keys to values, such as `seed: 0`; it holds list"),
        ("seed: [1\n", "is not readable YAML"),
        ("", "must hold a mapping of keys to values, such as `seed: 0`; it holds nothing"),
        ("seed: !!python/object/apply:os.system ['true']\n", "is not readable YAML"),
    ],
)
def test_error_in_a_file_names_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"run.yaml .*{message}"):
        load_config(write_config(tmp_path, text))


def test_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"cannot read the config nowhere.yaml"):
        load_config("nowhere.yaml")


def test_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read the config .*run.yaml"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("key", ["method.", "views.", "evaluation.", "trainer.", ""])
def test_long_keys_and_values_are_cut_in_messages(key):
    with pytest.raises(ConfigError) as caught:
        build(parse_config(GOOD, {f"{key}{'x' * 5000}": 1}))
    assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD, {"seed": "x" * 5000})
    assert len(str(caught.value)) < 300
