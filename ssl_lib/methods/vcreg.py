"""VCReg: supervised learning with VICReg's variance and covariance terms."""

from __future__ import annotations

import math

from torch import nn

from ssl_lib.backbones.base import feature_dim
from ssl_lib.losses import VCRegLoss, cross_entropy
from ssl_lib.methods.base import Method
from ssl_lib.registry import METHODS
from ssl_lib.types import Progress, StepOutput, Views
from ssl_lib.views.inputs import image_labels


@METHODS.register("vcreg")
class VCReg(Method):
    """VCReg (Zhu et al. 2023, arXiv:2306.13292; no official code).

    Cross-entropy of a linear classifier, plus variance and covariance terms that keep the features spread and
    decorrelated. The terms act on the backbone's features; the paper also has a form that acts on the output of every
    block. The paper reports no weights: the defaults are the library's.

    Args:
        backbone: Network to train, (N, C, H, W) -> (N, out_dim).
        num_classes: Number of classes; in a config it is taken from the data.
        variance_weight: Weight of the hinge loss on the features' standard deviations, >= 0.
        covariance_weight: Weight of the squared covariances between the features, >= 0.
    """

    supervised = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_classes: int,
        variance_weight: float = 1.0,
        covariance_weight: float = 0.04,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim(backbone), num_classes)
        self.loss = VCRegLoss(variance_weight, covariance_weight)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Classifies the first view and regularizes its features."""
        labels = image_labels(views)
        features = self.backbone(views.large[0])
        logits, regularization = self.classifier(features), self.loss(features)
        metrics = {"accuracy": (logits.argmax(1) == labels).float().mean(), "vcreg": regularization.detach()}
        loss = cross_entropy(logits, labels) + regularization
        return StepOutput(loss, metrics, features.detach(), features=features)

    def chance_loss(self, num_images: int) -> float:
        """Uniform distribution over the classes and features without a penalty: ln K."""
        return math.log(self.classifier.out_features)
