"""Tests of the fine-tuning protocol."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torchvision.ops import StochasticDepth

from ssl_lib.backbones import VisionTransformer, resnet_tiny
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.evaluation import EvaluatedEncoder, FineTune, RawPixels
from ssl_lib.evaluation.fine_tune import set_drop_path
from tests.conftest import TinyBackbone

PLAIN = {"mixup": 0.0, "cutmix": 0.0, "erase_p": 0.0, "flip_p": 0.0, "crop_scale": (0.9, 1.0), "precision": "fp32"}


def subject(encoder, images, **options):
    return EvaluatedEncoder("trained", encoder, images, images, size=16, **options)


def test_copy_learns_and_encoder_is_unchanged(images):
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


def test_training_equals_a_plain_adamw_loop(images):
    """With whole images, no mixing and a single batch, the recipe reduces to a plain torch loop."""
    torch.manual_seed(0)
    encoder = TinyBackbone()
    whole = {**PLAIN, "crop_scale": (1.0, 1.0)}
    protocol = FineTune(epochs=12, warmup_epochs=3, batch_size=96, lr=0.01, smoothing=0.2, drop_path=0.0, **whole)
    scores = protocol(subject(encoder, images))

    torch.manual_seed(0)
    model = torch.nn.Sequential(copy.deepcopy(encoder), torch.nn.Linear(16, 4))
    torch.nn.init.trunc_normal_(model[1].weight, std=2e-5)
    torch.nn.init.zeros_(model[1].bias)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], weight_decay=0.05)
    x = (images.gather(torch.arange(96)).float() / 255 - 0.5) / 0.25
    losses = []
    for step in range(12):
        warmup, cosine = step / 3, 0.5 * (1 + math.cos(math.pi * (step - 3) / 9))
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (warmup if step < 3 else cosine)
        loss = torch.nn.functional.cross_entropy(model.train()(x), images.labels, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert scores.details["loss"] == pytest.approx(losses, rel=1e-4)
    correct = model.eval()(x).argmax(1) == images.labels
    assert scores.values["finetune"] == pytest.approx(correct.double().mean().item(), abs=1 / 96)


def test_result_depends_only_on_the_seed(images):
    torch.manual_seed(0)
    encoder = VisionTransformer(64, depth=2, patch_size=8, image_size=16, in_channels=1)
    first = FineTune(epochs=2, batch_size=32)(subject(encoder, images))
    torch.manual_seed(9)
    assert FineTune(epochs=2, batch_size=32)(subject(encoder, images)) == first
    assert FineTune(epochs=2, batch_size=32, seed=1)(subject(encoder, images)).details["loss"] != first.details["loss"]
    assert first.details["layer_decay"] == 0.65
    assert all(path.p == 0 for path in encoder.modules() if isinstance(path, StochasticDepth))


def test_training_uses_only_the_given_bank_indices(images):
    chosen = torch.arange(0, 40, 2)  # classes 0 and 2 only
    scores = FineTune(epochs=30, batch_size=20, lr=0.01, **PLAIN)(subject(TinyBackbone(), images, bank_indices=chosen))
    assert scores.details["class_accuracy"][1] == scores.details["class_accuracy"][3] == 0.0


def test_raw_pixels_have_no_fine_tuning_score(images):
    assert FineTune()(subject(RawPixels(), images)).values == {}


def test_layer_decay_without_transformer_raises(images):
    with pytest.raises(ConfigError, match="needs a vision transformer"):
        FineTune(layer_decay=0.65)(subject(resnet_tiny(in_channels=1, width=8), images))


def test_non_finite_loss_raises(images):
    with pytest.raises(NonFiniteLossError, match=r"lower evaluation.finetune.lr"):
        FineTune(epochs=3, batch_size=16, lr=1e30, **PLAIN)(subject(TinyBackbone(), images))


def test_drop_path_grows_linearly_with_depth():
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
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"layer_decay": 0.0}, "layer_decay must be in"),
        ({"smoothing": 1.0}, "smoothing must be in"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale must be a pair"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"lr": -1.0}, "lr must be at least 0"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        FineTune(**settings)
