"""Fine-tuning: a copy learns, the encoder does not move, and the same seed gives the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torchvision.ops import StochasticDepth

from ssl_lib.backbones import VisionTransformer, resnet_tiny
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.evaluation import FineTune, RawPixels, Subject
from ssl_lib.evaluation.fine_tune import set_drop_path
from tests.conftest import TinyBackbone

PLAIN = {"mixup": 0.0, "cutmix": 0.0, "erase_p": 0.0, "flip_p": 0.0, "crop_scale": (0.9, 1.0), "precision": "fp32"}


def subject(encoder, images, **options):
    return Subject("trained", encoder, images, images, size=16, **options)


def test_a_copy_learns_and_the_encoder_stays_as_it_is(images):
    torch.manual_seed(0)
    encoder = TinyBackbone().train().requires_grad_(False)
    before, state = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    scores = FineTune(epochs=20, batch_size=32, lr=0.05, **PLAIN)(subject(encoder, images))
    assert scores.values["finetune"] > 0.9
    losses = scores.details["loss"]
    assert len(losses) == 20 and losses[-1] < 0.7 * losses[0]
    assert sum(map(sum, scores.details["confusion"])) == 96
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training and not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_decides_everything(images):
    torch.manual_seed(0)
    encoder = VisionTransformer(64, depth=2, patch_size=8, image_size=16, in_channels=1)
    first = FineTune(epochs=2, batch_size=32)(subject(encoder, images))
    torch.manual_seed(9)
    assert FineTune(epochs=2, batch_size=32)(subject(encoder, images)) == first
    assert FineTune(epochs=2, batch_size=32, seed=1)(subject(encoder, images)).details["loss"] != first.details["loss"]
    assert first.details["layer_decay"] == 0.65
    assert all(path.p == 0 for path in encoder.modules() if isinstance(path, StochasticDepth))


def test_only_the_chosen_images_are_trained_on(images):
    chosen = torch.arange(0, 40, 2)  # of classes 0 and 2 alone
    scores = FineTune(epochs=30, batch_size=20, lr=0.01, **PLAIN)(subject(TinyBackbone(), images, bank_indices=chosen))
    assert scores.details["class_accuracy"][1] == scores.details["class_accuracy"][3] == 0.0


def test_pixels_cannot_be_fine_tuned(images):
    assert FineTune()(subject(RawPixels(), images)).values == {}


def test_layer_decay_is_refused_where_there_are_no_layers(images):
    with pytest.raises(ConfigError, match="needs a vision transformer"):
        FineTune(layer_decay=0.65)(subject(resnet_tiny(in_channels=1, width=8), images))


def test_a_loss_that_is_not_finite_is_told(images):
    with pytest.raises(NonFiniteLossError, match=r"lower evaluation.finetune.lr"):
        FineTune(epochs=3, batch_size=16, lr=1e30, **PLAIN)(subject(TinyBackbone(), images))


def test_drop_path_grows_with_depth_in_a_copy_of_ours_and_of_timms():
    ours = VisionTransformer(64, depth=3, image_size=32)
    set_drop_path(ours, 0.4)
    assert [path.p for path in ours.modules() if isinstance(path, StochasticDepth)] == pytest.approx([0, 0.2, 0.4])
    timm = pytest.importorskip("timm.layers")
    theirs = torch.nn.Sequential(timm.DropPath(0.1), timm.DropPath(0.1))
    set_drop_path(theirs, 0.3)
    assert [path.drop_prob for path in theirs] == [0, 0.3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1"),
        ({"layer_decay": 0.0}, "layer_decay must lie in"),
        ({"smoothing": 1.0}, "smoothing must lie in"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale must be a pair"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"lr": -1.0}, "lr must be at least 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FineTune(**settings)
