"""Methods that use labels: SupCon and VCReg, their errors without labels, and the number of classes of the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ssl_lib import METHODS, ConfigError, Loader, Progress, Schedule, Trainer, ViewPipeline, Views
from ssl_lib.cli.main import main
from ssl_lib.config.load import parse_config
from ssl_lib.data import ArrayData
from ssl_lib.experiment.build import build
from ssl_lib.losses import NTXentLoss, SupConLoss, VCRegLoss
from tests.conftest import pattern_images, small_views

SUPERVISED = [name for name in METHODS if METHODS[name].supervised]
START = Progress(step=0, total_steps=100, steps_per_epoch=10)
TINY = "{name: resnet_tiny, width: 4}"


def labeled_views(labels):
    generator = torch.Generator().manual_seed(1)
    return Views(tuple(torch.randn(2, len(labels), 1, 16, 16, generator=generator).unbind(0)), labels=labels)


def gray_images():
    """96 images (N, H, W) for a file."""
    return pattern_images().gather(torch.arange(96))[:, 0].numpy()


def test_supcon_contrasts_the_projections_by_their_labels(make_method):
    method, labels = make_method("supcon", temperature=0.2), torch.tensor([0, 1, 1, 2, 0, 0])
    output = method(labeled_views(labels), START)
    z = torch.stack((output.embeddings, output.embeddings_b), 1)
    torch.testing.assert_close(output.loss.detach(), SupConLoss(0.2)(z, labels))


def test_supcon_of_distinct_labels_is_simclr_with_the_same_projector(make_method):
    output = make_method("supcon", temperature=0.2)(labeled_views(torch.arange(6)), START)
    expected = NTXentLoss(0.2)(output.embeddings, output.embeddings_b)
    torch.testing.assert_close(output.loss.detach(), expected)


def test_vcreg_adds_the_regularization_of_the_features_to_the_cross_entropy(make_method):
    method = make_method("vcreg", variance_weight=0.5, covariance_weight=0.1)
    labels = torch.tensor([0, 1, 3, 2, 0, 0])
    output = method(labeled_views(labels), START)
    logits, regularization = method.classifier(output.features), VCRegLoss(0.5, 0.1)(output.features)
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, labels) + regularization)
    torch.testing.assert_close(output.metrics["vcreg"], regularization.detach())
    assert output.metrics["accuracy"] == (logits.argmax(1) == labels).float().mean()


@pytest.mark.parametrize("name", SUPERVISED)
def test_script_with_unlabeled_images_fails_before_the_run_starts(name, make_method, tmp_path):
    data = ArrayData(pattern_images().gather(torch.arange(96)), mean=(0.5,), std=(0.25,))
    loader = Loader(data, ViewPipeline(small_views(name), data.mean, data.std), 32)
    method = make_method(name)
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.1)
    with pytest.raises(ValueError, match=f"{type(method).__name__} is supervised, but the training images have no"):
        Trainer(tmp_path / "run", device="cpu").fit(method, loader, optimizer, Schedule(epochs=1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", SUPERVISED)
def test_forward_without_labels_says_so(name, make_method):
    with pytest.raises(ValueError, match="this method is supervised, but the training images have no labels"):
        make_method(name)(Views(labeled_views(torch.arange(6)).large), START)


@pytest.mark.parametrize("name", SUPERVISED)
def test_command_with_unlabeled_images_ends_in_one_error_and_writes_nothing(name, tmp_path, capsys):
    np.save(tmp_path / "images.npy", gray_images())
    data = f"data={{name: arrays, path: {tmp_path / 'images.npy'}}}"
    changes = [data, f"backbone={TINY}", "trainer.batch_size=16", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", f"fashion_mnist/{name}", *changes]) != 0
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1
    assert f"method {name}: {METHODS[name].__name__} is supervised, but the training images have no labels" in err
    assert not (tmp_path / "run").exists()


def config(tmp_path, labels, **method):
    np.savez(tmp_path / "data.npz", images=gray_images(), labels=labels)
    return parse_config(
        {
            "data": {"name": "arrays", "path": str(tmp_path / "data.npz")},
            "backbone": {"name": "resnet_tiny", "width": 4},
            "method": {"name": "vcreg", **method},
            "views": {"preset": "vcreg", "size": 16},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "schedule": {"epochs": 1},
            "trainer": {"batch_size": 16},
            "evaluation": {"every_epochs": 0},
            "run_dir": str(tmp_path / "run"),
        }
    )


@pytest.mark.parametrize("labels", [np.arange(96) % 7, np.array(list("abcdefg"))[np.arange(96) % 7]])
def test_number_of_classes_is_taken_from_the_data(labels, tmp_path):
    method = build(config(tmp_path, labels)).method
    assert method.classifier.out_features == 7


def test_another_number_of_classes_than_the_data_have_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.num_classes is 5, but the data have 7: remove the key"):
        build(config(tmp_path, np.arange(96) % 7, num_classes=5))
