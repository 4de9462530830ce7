"""Builds the evaluator of a config: the labeled images, the protocols and the random network."""

from __future__ import annotations

import sys

import torch

from ssl_lib.config.resolve import call, without_weights
from ssl_lib.config.run_config import RunConfig
from ssl_lib.data import ImageData
from ssl_lib.data.leakage import warn_of_shared_images
from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.distributed import rank
from ssl_lib.evaluation import Evaluator
from ssl_lib.experiment.components import make, make_data
from ssl_lib.registry import BACKBONES, PROTOCOLS
from ssl_lib.views import ViewPipeline

__all__ = ["build_evaluator"]


def build_evaluator(
    config: RunConfig, train: ImageData, views: ViewPipeline, preprocessing: Preprocessing
) -> Evaluator | None:
    """Builds the evaluator of a resolved config, or returns None if the data have no labeled images.

    Args:
        config: The config, including the backbone's channels and image size.
        train: The training images. They are the bank if they have labels.
        views: The training views.
        preprocessing: Resizes and normalizes the evaluation images.

    Raises:
        ConfigError: The settings do not fit the images.
        DataError: Images are missing.
    """
    settings = config.evaluation
    chosen = {name: arguments for name, arguments in settings.protocols.items() if arguments is not None}
    protocols = [call(f"evaluation.{name}", PROTOCOLS[name], **arguments) for name, arguments in chosen.items()]
    if not protocols:
        return None
    queries = make_data(config, "test")
    bank = train if train.labels is not None else make_data(config, "bank")
    if queries is None or bank is None:
        if settings.every_epochs and rank() == 0:
            missing = "test" if queries is None else "training"
            print(
                f"note: the data have no labeled {missing} images, so the evaluation is skipped. To add some, see "
                f"`ssl-lib list data {config.data.name}`; to hide this note, set evaluation.every_epochs=0",
                file=sys.stderr,
            )
        return None
    if bank is not train:  # the evaluator compares its own bank
        warn_of_shared_images(train, queries)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        random_encoder = make(BACKBONES, without_weights(config.backbone), "backbone")
    return call(
        "evaluation",
        Evaluator,
        bank,
        queries,
        protocols,
        random_encoder=random_encoder,
        preprocessing=preprocessing,
        workers=config.trainer["workers"],
        views=views,
    )
