"""What the Trainer does for a method: memories, `before_epoch`, random numbers and regularizers."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import Loader, Method, Schedule, Trainer, ViewPipeline
from ssl_lib.losses import KoLeoLoss, VCRegLoss
from ssl_lib.memory import FeatureQueue, memories
from ssl_lib.training.method_output import checked_output
from ssl_lib.types import StepOutput
from tests.conftest import TinyBackbone, small_views
from tests.families import BY_FAMILY
from tests.training.helpers import Recorder, StopAfter


def fit(method, loader, folder=None, epochs=2.0, stop=None, resume=False, **options):
    trainer = Trainer(folder, precision="fp32", device="cpu", **options)
    stops = StopAfter(stop)
    stops.trainer = trainer
    trainer.callbacks = [*(trainer.callbacks if folder else ()), *([stops] if stop else ())]
    optimizer = torch.optim.SGD(method.param_groups(1e-4), lr=0.05, momentum=0.9)
    return trainer.fit(method, loader, optimizer, Schedule(epochs=epochs, lr_scaling="none"), resume=resume)


@pytest.mark.parametrize("name", BY_FAMILY)
def test_memories_move_in_training(name, make_method, make_loader):
    method = make_method(name)
    before = [{key: value.clone() for key, value in part.state_dict().items()} for part in memories(method)]
    fit(method, make_loader(name), epochs=1)
    for part, old in zip(memories(method), before, strict=True):
        assert all(not torch.equal(value, old[key]) for key, value in part.state_dict().items()), type(part).__name__


@pytest.mark.parametrize("stop", [2, 3], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("name", BY_FAMILY)
def test_resumed_run_equals_an_unbroken_one(name, stop, make_method, make_loader, tmp_path):
    whole, resumed = make_method(name), make_method(name)
    fit(whole, make_loader(name))
    fit(make_method(name), make_loader(name), tmp_path, stop=stop)
    for value in resumed.state_dict().values():
        if value.is_floating_point():
            value.normal_()  # everything must come from the checkpoint
    fit(resumed, make_loader(name), tmp_path, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


class Watches(Method):
    """Records what `before_epoch` and `forward` get."""

    def __init__(self):
        super().__init__()
        self.backbone = TinyBackbone()
        self.epochs, self.drawn, self.encoded = [], [], []

    def before_epoch(self, progress, encode):
        assert self.training
        self.epochs.append(progress.step)
        self.encoded.append(encode(self.backbone))

    def forward(self, views, progress):
        z = self.backbone(views.large[0])
        self.drawn.append((views.random.shared(2), views.random.per_image(1), views.indices))
        return StepOutput(z.square().mean(), embeddings=z.detach(), features=z)


def test_before_epoch_gets_the_outputs_of_all_images_by_index(images):
    torch.manual_seed(0)
    method, used, twin = Watches(), torch.arange(5, 90), TinyBackbone()
    twin.load_state_dict(method.backbone.state_dict())
    pipeline = ViewPipeline(small_views("rotation"), images.mean, images.std)
    fit(method, Loader(images, pipeline, 32, indices=used), epochs=3)
    assert method.epochs == [0, 2, 4]
    expected = twin.eval()((images.gather(torch.arange(96)) / 255 - 0.5) / 0.25).detach()
    expected[:5] = expected[90:] = 0
    torch.testing.assert_close(method.encoded[0], expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(method.encoded[1][used], expected[used])
    assert method.training


@pytest.mark.parametrize("accumulate", [2, 4])
def test_random_numbers_of_an_image_do_not_depend_on_the_micro_batches(images, accumulate):
    found = {}
    pipeline = ViewPipeline(small_views("rotation"), images.mean, images.std)
    for parts in (1, accumulate):
        method = Watches()
        fit(method, Loader(images, pipeline, 32), epochs=1, accumulate=parts)
        shared = torch.stack([drawn[0] for drawn in method.drawn]).view(3, parts, 2)
        assert torch.equal(shared, shared[:, :1].expand_as(shared)) and len(shared[:, 0].unique(dim=0)) == 3
        numbers, indices = (torch.cat([drawn[place] for drawn in method.drawn]) for place in (1, 2))
        found[parts] = dict(zip(indices.tolist(), numbers[:, 0].tolist(), strict=True))
    assert found[1] == found[accumulate] and len(set(found[1].values())) == 96


def test_regularizers_are_added_with_their_weights(make_loader):
    method = Watches()
    views = make_loader().views(next(iter(make_loader().epoch(0))))
    own = method(views, None)
    method.regularizers = {"koleo": (0.5, KoLeoLoss()), "vcreg": (2.0, VCRegLoss())}
    output = checked_output(method(views, None), method)
    expected = own.loss + 0.5 * KoLeoLoss()(own.features) + 2.0 * VCRegLoss()(own.features)
    torch.testing.assert_close(output.loss, expected)
    assert output.metrics.keys() == {"koleo", "vcreg"}
    weight = method.backbone[0].weight
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (output.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_regularizers_are_trained_and_logged(make_loader):
    recorder, method = Recorder(), Watches()
    method.regularizers = {"koleo": (0.1, KoLeoLoss())}
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.05)
    Trainer(callbacks=[recorder], device="cpu").fit(method, make_loader(), optimizer, Schedule(epochs=1))
    assert "koleo" in recorder.lines[-1]


def test_regularizers_without_features_are_refused(make_loader):
    class NoFeatures(Watches):
        def forward(self, views, progress):
            return StepOutput(super().forward(views, progress).loss)

    method = NoFeatures()
    method.regularizers = {"koleo": (0.5, KoLeoLoss())}
    with pytest.raises(ValueError, match=r"NoFeatures\.forward returns no features to regularize"):
        fit(method, make_loader(), epochs=1)


def test_a_queue_larger_than_the_data_is_refused_before_training(make_loader):
    class Queues(Watches):
        def __init__(self):
            super().__init__()
            self.queue = FeatureQueue(97, 4)

    with pytest.raises(ValueError, match=r"a queue of 97 .* data set of 96 images: set queue_size to at most 96"):
        fit(Queues(), make_loader(), epochs=1)
