"""Tests that misconfigured runs get the correct finding in their first epochs, and healthy runs get none."""

from __future__ import annotations

import pytest
import torch

from ssl_lib.data import ArrayData
from ssl_lib.distributed import rank
from ssl_lib.heads import Prototypes
from tests.distributed_helper import run_processes
from tests.doctor.short_runs import FAR_TOO_STRONG, NONE, Attract, Lengthen, clothes, findings_of, names, small


def test_learning_rate_100_times_too_high():
    assert names(findings_of(small("byol"), lr=0.2, epochs=1)) == ["learning rate too high"]


def test_learning_rate_100_times_too_high_is_detected_by_weights_if_lines_are_rare():
    (found,) = findings_of(small("byol"), lr=0.2, epochs=2, log_every=20)
    assert found.name == "learning rate too high" and "weight_rms grew" in found.seen


def test_learning_rate_far_too_low():
    assert names(findings_of(small("simclr"), lr=2e-8, epochs=1.5, log_every=4)) == ["learning rate too low"]


@pytest.mark.parametrize(("momentum", "name"), [(1.0, "frozen teacher"), (0.0, "racing teacher")])
def test_teacher_momentum_of_one_or_zero(momentum, name):
    assert names(findings_of(small("byol", momentum=momentum), epochs=1, log_every=2)) == [name]


def test_no_augmentation():
    found = findings_of(small("simclr"), changes=NONE, epochs=1)
    assert names(found) == ["augmentation too weak"] and found[0].step == 14, "the third line"


def test_temperature_of_10():
    (found,) = findings_of(small("simclr", temperature=10.0), epochs=2)
    assert found.name == "loss pinned at chance" and "4.844" in found.seen, "ln(127)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("simclr", {}), ("vicreg", {}), ("dino", {}), ("simsiam", {"optimizer": "sgd", "lr": 20.0})],
)
def test_learning_rate_far_too_high_for_every_method(name, settings):
    assert names(findings_of(small(name), **{"lr": 0.2, "epochs": 1, **settings})) == ["learning rate too high"]


@pytest.mark.slow
def test_no_stop_gradient_and_no_predictor():
    assert "complete collapse" in names(findings_of(Attract(), lr=5e-3))


@pytest.mark.slow
def test_vicreg_without_variance_term():
    method = small("vicreg", variance_weight=0.0)
    (found,) = findings_of(method, preset="vicreg", lr=1e-2, epochs=8)
    assert found.name == "complete collapse"


@pytest.mark.slow
def test_vicreg_without_covariance_term():
    found = findings_of(small("vicreg", covariance_weight=0.0), preset="vicreg", epochs=6)
    assert names(found) == ["dimensional collapse"]


@pytest.mark.slow
def test_dino_without_centering():
    assert names(findings_of(small("dino", center_momentum=1.0))) == ["one prototype takes all"]


def test_dino_with_few_dominant_prototypes():
    """With free norms, two prototypes twenty times longer than the others are the first choice of every image."""
    method = small("dino", num_prototypes=512, free_prototype_scale=True)
    with torch.no_grad():
        for scale in (part.scale for part in method.modules() if isinstance(part, Prototypes)):
            scale[:2] *= 20
    assert names(findings_of(method, batch_size=128, epochs=8)) == ["dead prototypes"]


def train_with_inverted_images_in_one_process() -> dict[str, torch.Tensor]:
    """Trains on inverted images in one of two processes, so that embeddings reveal the process; counts findings."""
    images = clothes(512)
    if rank() == 1:
        images = ArrayData(255 - images.gather(torch.arange(512)), images.labels, mean=images.mean, std=images.std)
    findings = findings_of(small("simclr"), images=images, epochs=4)
    if rank() == 0:
        assert names(findings) == ["BatchNorm leakage"]
    return {"findings": torch.tensor(len(findings))}


def test_embeddings_that_reveal_their_process(tmp_path):
    first, second = run_processes(train_with_inverted_images_in_one_process, (2,), tmp_path)[2]
    assert (first["findings"], second["findings"]) == (1, 0), "only the first process reports it"


@pytest.mark.slow
def test_dino_without_sharpening():
    blunt = {"teacher_temperature": 2.0, "warmup_teacher_temperature": 2.0}
    assert names(findings_of(small("dino", **blunt))) == ["undecided assignments"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "byol", "barlow_twins"])
def test_augmentation_that_destroys_the_image(name):
    found = findings_of(small(name), changes=FAR_TOO_STRONG, epochs=4)
    assert names(found)[0] == "augmentation too strong"


@pytest.mark.slow
def test_embeddings_that_grow_without_bound():
    assert "exploding embeddings" in names(findings_of(Lengthen(), lr=1e-2, epochs=6))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "byol", "simsiam", "barlow_twins", "vicreg", "dino"])
def test_healthy_run_has_no_findings(name):
    settings = {"optimizer": "sgd", "lr": 0.2} if name == "simsiam" else {}
    preset = name if name in ("simclr", "barlow_twins", "vicreg") else "byol"
    assert findings_of(small(name), preset=preset, **settings) == []
