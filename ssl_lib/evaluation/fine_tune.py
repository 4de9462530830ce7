"""Fine-tuning: trains a copy of the encoder and a linear head on the labeled training images."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from ssl_lib.data import Loader
from ssl_lib.distributed import is_distributed, rank, world_size
from ssl_lib.errors import ConfigError, NonFiniteLossError
from ssl_lib.evaluation.base import EvaluatedEncoder, Scores, check_at_least
from ssl_lib.evaluation.classification import class_report
from ssl_lib.evaluation.features import progress
from ssl_lib.evaluation.mixing import Mixing, soft_targets
from ssl_lib.optim import Schedule, layer_decay_groups
from ssl_lib.optim.param_groups import transformer_layers
from ssl_lib.registry import PROTOCOLS
from ssl_lib.runs.results import Metric
from ssl_lib.types import Progress
from ssl_lib.utils.precision import Precision
from ssl_lib.views import ViewConfig, ViewPipeline

__all__ = ["FineTune", "set_drop_path"]


@PROTOCOLS.register("finetune")
@dataclass(frozen=True, kw_only=True)
class FineTune:
    """A copy of the encoder and a new linear head, trained on all labeled training images.

    Source: MAE's recipe (He et al. 2022, arXiv:2111.06377, table 9; facebookresearch/mae, main_finetune.py): AdamW,
    layer decay, warmup and cosine decay, mixup, cutmix, label smoothing, drop path, random crops, flips and erasing.
    Differences: no RandAugment, crops that keep more of the image, and fewer epochs than the paper's 100. The row
    `random init` is training from scratch with the same recipe. Raw pixels have no weights to fine-tune. The encoder
    itself is not modified.

    Attributes:
        epochs: Passes over the labeled images.
        warmup_epochs: Number of these epochs with linear learning rate warmup.
        batch_size: Images per step, over all processes; limited to the number of images.
        lr: Peak learning rate; not scaled by the batch size.
        weight_decay: Weight decay of all parameters except biases and norms.
        layer_decay: Ratio of the learning rates of a layer and the layer above it, for vision transformers; None uses
            0.65 for them and 1 for other networks.
        drop_path: Stochastic depth rate of the last block, if the network has stochastic depth. The rate grows linearly
            from 0 at the first block.
        mixup: alpha of the Beta distribution for mixup, see `Mixing`; 0 disables mixup.
        cutmix: alpha of the Beta distribution for cutmix; 0 disables cutmix.
        smoothing: Label smoothing, in [0, 1).
        crop_scale: Smallest and largest fraction of the image area to crop.
        flip_p: Probability of a horizontal flip.
        erase_p: Probability of erasing a box.
        precision: Same values as `trainer.precision`.
        seed: Seed for the head, the batches, the views and the mixing.
    """

    copies_encoder: ClassVar[bool] = True  # not possible for an encoder that is sharded over processes

    epochs: int = 10
    warmup_epochs: float = 1.0
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float | None = None
    drop_path: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    crop_scale: tuple[float, float] = (0.35, 1.0)
    flip_p: float = 0.5
    erase_p: float = 0.25
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "epochs", "batch_size")
        check_at_least(0, self, "lr", "weight_decay", "mixup", "cutmix", "seed")
        for name in ("drop_path", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")
        Precision.resolve(self.precision, torch.device("cpu"))
        self._schedule()
        self._views(32, (0.5,), (0.5,))

    @property
    def measures(self) -> Sequence[Metric]:
        """The fine-tuned accuracy."""
        return [Metric("finetune", f"fine-tuned ({self.epochs} epoch{'s' * (self.epochs != 1)})")]

    def check(self, bank_labels: Tensor) -> None:
        """Raises ValueError if there are fewer images than processes, or fewer than two."""
        needed = max(2, world_size())
        if len(bank_labels) < needed:
            raise ValueError(f"finetune: needs at least {needed} labeled training images, got {len(bank_labels)}")

    def __call__(self, subject: EvaluatedEncoder) -> Scores:
        """Returns the accuracy, or nothing for an encoder without weights; the details hold losses and class report."""
        if next(subject.encoder.parameters(), None) is None:
            return Scores({})
        assert subject.queries is not None
        labels = subject.bank.labels, subject.queries.labels
        classes = int(max(int(each.max()) for each in labels if each is not None)) + 1
        with torch.random.fork_rng(devices=[subject.device] if subject.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            model = self._model(subject, classes)
            decay = self._layer_decay(model)
            losses = self._train(model, subject, classes, decay)
        tuned = replace(subject, encoder=model, title=f"{subject.title}: fine-tuned")
        logits, truth = tuned.features_of(subject.queries, subject.query_indices)
        assert truth is not None
        predictions = logits.argmax(1)
        report = {"loss": losses, "layer_decay": decay, **class_report(predictions, truth, classes)}
        return Scores({"finetune": (predictions == truth).double().mean().item()}, report)

    def _model(self, subject: EvaluatedEncoder, classes: int) -> nn.Sequential:
        """Copies the encoder, makes all of its parameters trainable and adds a head initialized near zero."""
        encoder = copy.deepcopy(subject.encoder).requires_grad_(True)
        set_drop_path(encoder, self.drop_path)
        with torch.no_grad():
            black = torch.zeros(1, *subject.inputs.shape, device=subject.device)
            width = encoder.eval()(black).shape[1]
        head = nn.Linear(width, classes)
        nn.init.trunc_normal_(head.weight, std=2e-5)
        nn.init.zeros_(head.bias)
        return nn.Sequential(encoder, head).to(subject.device)

    def _layer_decay(self, model: nn.Module) -> float:
        if transformer_layers(model) is not None:
            return self.layer_decay or 0.65
        if self.layer_decay in (None, 1):
            return 1.0
        raise ConfigError(
            f"evaluation.finetune.layer_decay {self.layer_decay} needs a vision transformer; set it to null or 1"
        )

    def _train(self, model: nn.Module, subject: EvaluatedEncoder, classes: int, decay: float) -> list[float]:
        """Trains the model in place; returns the mean loss per epoch, over the images of this process."""
        places, device = subject.bank_places, subject.device
        batch_size = min(self.batch_size, len(places)) // world_size() * world_size()
        views = self._views(subject.inputs.size, subject.inputs.mean, subject.inputs.std)
        loader = Loader(subject.bank, views, batch_size, seed=self.seed, workers=subject.workers, indices=places)
        optimizer = AdamW(layer_decay_groups(model, self.weight_decay, decay), lr=self.lr)
        schedule, precision = self._schedule(), Precision.resolve(self.precision, device)
        schedule.prepare(optimizer, batch_size)
        scaler = precision.scaler()
        steps = self.epochs * loader.steps_per_epoch
        wrapped = DistributedDataParallel(model) if is_distributed() else model
        losses = torch.zeros(self.epochs, device=device)
        torch.manual_seed(self.seed + rank())  # for stochastic depth: different in every process
        model.train()
        batches = progress(self._batches(loader, classes, device), f"{subject.title}: fine-tuning", steps, unit="step")
        for step, (images, targets) in enumerate(batches):
            now = Progress(step, steps, loader.steps_per_epoch)
            schedule.apply(optimizer, now)
            with precision.autocast():
                logits = wrapped(images)
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses[now.epoch] += loss.detach() / loader.steps_per_epoch
        if not losses.isfinite().all():
            raise NonFiniteLossError("finetune: the loss became NaN or infinite; lower evaluation.finetune.lr")
        return losses.tolist()

    def _batches(self, loader: Loader, classes: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented and mixed images with their soft targets, for all epochs."""
        mixing, rng = Mixing(self.mixup, self.cutmix), np.random.default_rng((self.seed, rank()))
        generator = torch.Generator().manual_seed(self.seed + rank())
        for batch in (batch.to(device) for epoch in range(self.epochs) for batch in loader.epoch(epoch)):
            assert batch.labels is not None
            images = loader.views(batch.images, generator).large[0]
            yield mixing(images, soft_targets(batch.labels, classes, self.smoothing), rng)

    def _schedule(self) -> Schedule:
        warmup = min(self.warmup_epochs, self.epochs / 2)
        return Schedule(epochs=self.epochs, warmup_epochs=warmup, lr_scaling="none")

    def _views(self, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> ViewPipeline:
        view = ViewConfig(
            size=size,
            crop_scale=self.crop_scale,
            interpolation="bicubic",
            flip_p=self.flip_p,
            jitter_p=0.0,
            grayscale_p=0.0,
            blur_p=0.0,
            erase_p=self.erase_p,
        )
        return ViewPipeline([view], mean, std)


def set_drop_path(network: nn.Module, rate: float) -> None:
    """Sets the rates of a network's stochastic depth modules (torchvision or timm), linearly from 0 to `rate`.

    Source: Huang et al. 2016 (arXiv:1603.09382). A network without such modules is not changed.
    """
    names = {"StochasticDepth": "p", "DropPath": "drop_prob"}
    paths = [module for module in network.modules() if type(module).__name__ in names]
    for place, path in enumerate(paths):
        setattr(path, names[type(path).__name__], rate * place / max(len(paths) - 1, 1))
